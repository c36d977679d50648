import { assertNever } from '../../../shared/assert-never.js';
import { parseCidr } from '../../../shared/address.js';
import type { Peer } from '../../resources/kinds/peer.js';
import { parseTestParty } from '../../resources/kinds/rule-test.js';
import { didYouMean } from '../../../shared/nearest-name.js';
import { servedPort } from '../../../shared/routing/destination.js';
import type { RegistryEntry, RegistryService } from '../../../shared/routing/registry-entry.js';
import { resolveName } from '../../analysis/registry/registered-name.js';
import { lookupOf, type RegistryLookup } from '../../analysis/registry/registry-lookup.js';
import { CliError, usageError } from '../exit-codes.js';

export type NamedPeer = { readonly peer: Peer; readonly port: number | string | null };

/**
 * What a person means by `billing/api`, `sa:billing/api`, `service:billing/db:5432`, an address or a CIDR, as a peer of
 * a rule: a workload, a service (destinations only) or a service account, in this order. The port is that of the
 * endpoint, or its name, also where the port of a service was named. Throws CliError: `usage`, or `notFound` for what
 * nothing is called.
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
  const { name, port } = end;
  const registry = lookupOf(entries);
  const found = resolveName(registry, end, side);
  switch (found.kind) {
    case 'workload':
      return { peer: { workload: name }, port };
    case 'service':
      return { peer: { service: name }, port: endpointPort(name, found.service, port) };
    case 'serviceAccount':
      return { peer: { serviceAccount: name }, port };
    case 'unknown':
      throw unknownName(text, name, registry);
    default:
      return assertNever(found);
  }
}

function endpointPort(name: string, service: RegistryService, port: number | null): number | string {
  const served = servedPort(service, port);
  if (served !== undefined) return served.targetPort;
  const known = service.ports.map((candidate) => candidate.port).join(', ');
  throw usageError(`the service ${name} has no port ${String(port)}`, `use one of ${known}`);
}

function unknownName(text: string, name: string, registry: RegistryLookup): CliError {
  return new CliError({
    exit: 'notFound',
    code: 'NOT_FOUND',
    message: `nothing is registered as ${text}`,
    hint: didYouMean(name, registry.names(), 'list what there is: culvert get workloads'),
  });
}
