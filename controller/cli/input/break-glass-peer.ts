import { parseCidr } from '../../../shared/address.js';
import type { Peer } from '../../resources/kinds/peer.js';
import { parseTestParty } from '../../resources/kinds/rule-test.js';
import { nearestName } from '../../../shared/nearest-name.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { CliError, usageError } from '../exit-codes.js';

export type NamedPeer = { readonly peer: Peer; readonly port: number | null };

/**
 * What a person means by `billing/api`, `sa:billing/api`, `service:billing/db:5432`, an address or a CIDR, as a peer of
 * a rule: a workload, a service (destinations only) or a service account, in this order. The port is that of the
 * endpoint, also where the port of a service was named. Throws CliError: `usage`, or `notFound` for what nothing is called.
 */
export function namedPeer(text: string, side: 'source' | 'destination', entries: readonly RegistryEntry[]): NamedPeer {
  if (side === 'source' && text.includes('/') && parseCidr(text) !== undefined)
    return { peer: { cidr: text }, port: null };
  const end = parseTestParty(text);
  if (end === undefined) {
    const hint = side === 'source' ? 'write NAMESPACE/NAME or an address' : 'write NAMESPACE/NAME:PORT or ADDRESS:PORT';
    throw usageError(`the ${side} "${text}" is neither a name nor an address`, hint);
  }
  if (side === 'source' && end.port !== null) throw usageError(`the source "${text}" has a port`, 'leave it out');
  if (side === 'destination' && end.port === null)
    throw usageError(`the destination "${text}" has no port`, 'write DST:PORT');
  if ('ip' in end) return { peer: { cidr: `${end.ip}/${end.ip.includes(':') ? 128 : 32}` }, port: end.port };
  const { word, name, port } = end;
  const isMeant = (candidate: typeof word) => word === null || word === candidate;
  if (isMeant('workload') && entries.some((entry) => entry.kind === 'workload' && nameOf(entry) === name)) {
    return { peer: { workload: name }, port };
  }
  if (isMeant('service') && side === 'destination') {
    const service = entries.find((entry) => entry.kind === 'service' && nameOf(entry) === name);
    if (service?.kind === 'service') return { peer: { service: name }, port: endpointPort(name, service.ports, port) };
  }
  const isAccount = (entry: RegistryEntry) =>
    entry.kind === 'workload' && `${entry.namespace}/${entry.serviceAccount}` === name;
  if (isMeant('sa') && entries.some(isAccount)) return { peer: { serviceAccount: name }, port };
  throw unknownName(text, name, entries);
}

function endpointPort(
  name: string,
  ports: readonly { readonly port: number; readonly targetPort: number }[],
  port: number | null,
): number {
  const served = ports.find((candidate) => candidate.port === port);
  if (served !== undefined) return served.targetPort;
  const known = ports.map((candidate) => candidate.port).join(', ');
  throw usageError(`the service ${name} has no port ${String(port)}`, `use one of ${known}`);
}

function nameOf({ namespace, name }: RegistryEntry): string {
  return `${namespace}/${name}`;
}

function unknownName(text: string, name: string, entries: readonly RegistryEntry[]): CliError {
  const nearest = nearestName(name, new Set(entries.map(nameOf)));
  return new CliError({
    exit: 'notFound',
    code: 'NOT_FOUND',
    message: `nothing is registered as ${text}`,
    hint: nearest === undefined ? 'list what there is: culvert get workloads' : `did you mean ${nearest}?`,
  });
}
