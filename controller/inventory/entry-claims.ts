import type { RegistryEntry } from '../../shared/routing/registry-entry.js';

/**
 * What an entry claims for itself alone: its addresses, and a network namespace of a node. Each is a text that no other
 * kind of claim has: an address has no slash, and the path of a namespace has one.
 */
export function claimsOf(entry: RegistryEntry): readonly string[] {
  if (entry.kind === 'service') return entry.vips;
  const { addresses, node, netns } = entry;
  return node === null || netns === null ? addresses : [...addresses, `${netnsPath(netns)} on ${node}`];
}

/** The entry without the claims that it does not own. The same object when it owns all. */
export function withoutClaims(entry: RegistryEntry, lost: ReadonlySet<string>): RegistryEntry {
  if (lost.size === 0) return entry;
  if (entry.kind === 'service') return { ...entry, vips: entry.vips.filter((ip) => !lost.has(ip)) };
  const { node, netns } = entry;
  const isNetnsLost = node !== null && netns !== null && lost.has(`${netnsPath(netns)} on ${node}`);
  // Still of protocol hbone: it is reached through a tunnel that nothing answers, and never in the clear.
  return {
    ...entry,
    addresses: entry.addresses.filter((ip) => !lost.has(ip)),
    netns: isNetnsLost ? null : netns,
  };
}

function netnsPath(netns: string): string {
  return netns.startsWith('/') ? netns : `/run/netns/${netns}`;
}
