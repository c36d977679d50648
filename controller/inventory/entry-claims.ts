import { netnsPath } from '../resources/kinds/workload.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';

/**
 * What an entry claims exclusively: its addresses, and a network namespace of a node. Claims of different kinds never
 * have the same text: an address has no slash, and the path of a namespace has one.
 */
export function claimsOf(entry: RegistryEntry): readonly string[] {
  if (entry.kind === 'service') return entry.vips;
  const { addresses, node, netns } = entry;
  return node === null || netns === null ? addresses : [...addresses, `${netnsPath(netns)} on ${node}`];
}

/** The entry without its lost claims. Returns the same object when none is lost. */
export function withoutClaims(entry: RegistryEntry, lost: ReadonlySet<string>): RegistryEntry {
  if (lost.size === 0) return entry;
  if (entry.kind === 'service') return { ...entry, vips: entry.vips.filter((ip) => !lost.has(ip)) };
  const { node, netns } = entry;
  const isNetnsLost = node !== null && netns !== null && lost.has(`${netnsPath(netns)} on ${node}`);
  // The protocol stays hbone: peers then dial a tunnel that no agent answers, and never send in the clear.
  return {
    ...entry,
    addresses: entry.addresses.filter((ip) => !lost.has(ip)),
    netns: isNetnsLost ? null : netns,
  };
}
