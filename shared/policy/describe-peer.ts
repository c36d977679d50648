import { parseSpiffeId } from '../identity.js';
import type { Connection, Party } from './connection.js';
import type { ConnectionFacts } from './connection-facts.js';
import type { PeerMatch, PortRange } from './snapshot.js';

/** At most this many values of a list are shown to a person. */
const maxListed = 4;

/** `in segment batch`, `service account billing/api on node host-a`: to be read after "is" or "is not". */
export function describePeer(match: PeerMatch): string {
  if (match.segment !== undefined) return `in segment ${match.segment}`;
  if (match.service !== undefined) return `an endpoint of service ${match.service}`;
  const parts: string[] = [];
  if (match.workloads !== undefined) parts.push(`workload ${list(match.workloads)}`);
  if (match.serviceAccounts !== undefined) parts.push(`service account ${list(match.serviceAccounts)}`);
  if (match.namespaces !== undefined) parts.push(`in namespace ${list(match.namespaces)}`);
  if (match.labels !== undefined) {
    parts.push(`labelled ${list(pairs(match.labels))}`);
  }
  if (match.namespaceLabels !== undefined) {
    parts.push(`in a namespace labelled ${list(pairs(match.namespaceLabels))}`);
  }
  if (match.nodes !== undefined) parts.push(`on node ${list(match.nodes)}`);
  if (match.external === true) parts.push('external');
  if (match.unauthenticated === true) parts.push('unauthenticated');
  if (match.cidrs !== undefined) parts.push(`in ${list(match.cidrs)}`);
  if (match.exceptCidrs !== undefined) parts.push(`not in ${list(match.exceptCidrs)}`);
  return parts.length === 0 ? 'anybody' : parts.join(', ');
}

/** Alternatives, each segment once. */
export function describePeers(matches: readonly PeerMatch[]): string {
  const texts = [...new Set(matches.map(describePeer))];
  return texts.length === 1 ? (texts[0] ?? '') : `any of: ${list(texts, '; ')}`;
}

export function describePorts(ports: readonly PortRange[]): string {
  return list(ports.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)));
}

/** `source billing/api`, or with what it failed to prove. */
export function describeSource({ source }: Connection, { claimedSource }: ConnectionFacts): string {
  if (claimedSource === null || source.workload === null) return `source ${partyName(source)}`;
  const { namespace, name } = source.workload;
  const proved = source.identity === null ? 'which proved no identity' : `which proved ${source.identity}`;
  return `source ${source.ip} (the address of ${namespace}/${name}, ${proved})`;
}

export function describeDestination({ destination }: Connection): string {
  return `destination ${partyName(destination)}`;
}

function partyName({ workload, identity, ip }: Party): string {
  if (workload !== null) return `${workload.namespace}/${workload.name}`;
  const proved = identity === null ? undefined : parseSpiffeId(identity);
  return proved === undefined ? ip : `${ip} (service account ${proved.namespace}/${proved.serviceAccount})`;
}

function pairs(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`);
}

function list(values: readonly string[], separator = ', '): string {
  const shown = values.slice(0, maxListed).join(separator);
  return values.length > maxListed ? `${shown}${separator}and ${values.length - maxListed} more` : shown;
}
