import { ipBytes, parseCidr, type HostPort } from '../address.js';
import { NetworkSet } from '../network-set.js';
import type { CompiledExternal } from '../policy/snapshot.js';
import { servedPort } from './destination.js';
import type { RegistryEntry } from './registry-entry.js';
import type { RegistryView } from './registry-view.js';

/**
 * Late accept: a client's `connect()` to a port with `earlyAccept: false` returns when the far side is connected, and fails
 * when it is not. What the dialled address belongs to decides: a workload's own ports, the ports of a service for its
 * VIPs, the ports of a ServiceEntry for addresses outside the mesh.
 */
export function isAcceptedLate(registry: RegistryView, externals: LateExternals, dialled: HostPort): boolean {
  const workload = registry.workloadAt(dialled.ip);
  if (workload !== undefined) return workload.lateAcceptPorts?.includes(dialled.port) ?? false;
  const service = registry.serviceAt(dialled.ip);
  if (service !== undefined) return servedPort(service, dialled.port)?.earlyAccept === false;
  return externals.has(dialled);
}

/** The addresses of ServiceEntries that are accepted late, by port: a SYN waits for the look-up, so nothing is parsed then. */
export class LateExternals {
  readonly #byPort = new Map<number, LateNetworks>();

  /** Takes over from `before` what has not changed: rules change much more often than thousands of networks. */
  constructor(externals: readonly CompiledExternal[], before?: LateExternals) {
    const textsByPort = new Map<number, string[]>();
    for (const { lateAcceptPorts = [], cidrs } of externals) {
      for (const port of lateAcceptPorts) {
        const texts = textsByPort.get(port) ?? [];
        textsByPort.set(port, texts);
        for (const text of cidrs) texts.push(text);
      }
    }
    for (const [port, texts] of textsByPort) {
      const known = (before ?? this).#byPort.get(port);
      this.#byPort.set(port, known !== undefined && isSame(known.texts, texts) ? known : networksOf(texts));
    }
  }

  has({ ip, port }: HostPort): boolean {
    return this.#byPort.get(port)?.networks.has(ipBytes(ip)) ?? false;
  }
}

type LateNetworks = { readonly texts: readonly string[]; readonly networks: NetworkSet };

function networksOf(texts: readonly string[]): LateNetworks {
  return { texts, networks: new NetworkSet({ networks: texts.flatMap((text) => parseCidr(text) ?? []) }) };
}

function isSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((text, index) => text === others[index]);
}

/** The ports of an entry that are accepted late: those that clients dial. */
export function lateAcceptPortsOf(entry: RegistryEntry): readonly number[] {
  if (entry.kind === 'workload') return entry.lateAcceptPorts ?? [];
  return entry.ports.filter(({ earlyAccept }) => earlyAccept === false).map(({ port }) => port);
}
