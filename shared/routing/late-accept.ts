import { cidrContains, ipBytes, parseCidr, type HostPort } from '../address.js';
import type { CompiledExternal } from '../policy/snapshot.js';
import { servedPort } from './destination.js';
import type { RegistryEntry } from './registry-entry.js';
import type { RegistryView } from './registry-view.js';

/**
 * Late accept: a client's `connect()` to a port with `earlyAccept: false` returns when the far side is connected, and fails
 * when it is not. What the dialled address belongs to decides: a workload's own ports, the ports of a service for its
 * VIPs, the ports of a ServiceEntry for addresses outside the mesh.
 */
export function isAcceptedLate(
  registry: RegistryView,
  externals: readonly CompiledExternal[],
  dialled: HostPort,
): boolean {
  const workload = registry.workloadAt(dialled.ip);
  if (workload !== undefined) return workload.lateAcceptPorts?.includes(dialled.port) ?? false;
  const service = registry.serviceAt(dialled.ip);
  if (service !== undefined) return servedPort(service, dialled.port)?.earlyAccept === false;
  return externals.some((external) => isLateAt(external, dialled));
}

function isLateAt({ lateAcceptPorts, cidrs }: CompiledExternal, { ip, port }: HostPort): boolean {
  if (lateAcceptPorts === undefined || !lateAcceptPorts.includes(port)) return false;
  const bytes = ipBytes(ip);
  return cidrs.some((text) => {
    const cidr = parseCidr(text);
    return cidr !== undefined && cidrContains(cidr, bytes);
  });
}

/** The ports of an entry that are accepted late: those that clients dial. */
export function lateAcceptPortsOf(entry: RegistryEntry): readonly number[] {
  if (entry.kind === 'workload') return entry.lateAcceptPorts ?? [];
  return entry.ports.filter(({ earlyAccept }) => earlyAccept === false).map(({ port }) => port);
}
