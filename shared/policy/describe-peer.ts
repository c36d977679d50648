import { parseSpiffeId } from '../identity.js';
import type { Connection, Party } from './connection.js';
import type { ConnectionFacts } from './connection-facts.js';
import { listed, matchFieldNames, matchFields, useField, type MatchFieldName } from './match-fields.js';
import { isSegmentRef, type PeerMatch, type RulePeer, type RulePort } from './snapshot.js';
import { serviceAccountName, workloadName } from '../routing/names.js';

/** The origin of a match (a segment, a service) tells people more than what it was expanded to. */
const originFields = matchFieldNames.filter((field) => matchFields[field].prepare === null);

/** `in segment batch`, `service account billing/api, on node host-a`: reads well after "is" or "is not". */
export function describePeer(match: RulePeer): string {
  if (isSegmentRef(match)) return describeSegment(match.memberOf);
  const [origin] = describeFields(originFields, match);
  if (origin !== undefined) return origin;
  const parts = describeFields(matchFieldNames, match);
  return parts.length === 0 ? 'anybody' : parts.join(', ');
}

/** A member that a rule lists itself is also described by the segment that it came from. */
export function describeSegment(name: string): string {
  return matchFields.segment.describe(name);
}

function describeFields(fields: readonly MatchFieldName[], match: PeerMatch): string[] {
  const parts = fields.map((field) => useField(field, match, (row, value) => row.describe(value)));
  return parts.filter((part) => part !== undefined);
}

/** Describes alternatives; each segment appears once. */
export function describePeers(matches: readonly RulePeer[]): string {
  const texts = [...new Set(matches.map(describePeer))];
  return texts.length === 1 ? (texts[0] ?? '') : `any of: ${listed(texts, '; ')}`;
}

export function describePorts(ports: readonly RulePort[]): string {
  return listed(ports.map(describePort));
}

/** `5432`, `8000-8100`, or `http`: as documents write it. */
function describePort(port: RulePort): string {
  if (typeof port === 'string') return port;
  const [first, last] = port;
  return first === last ? String(first) : `${first}-${last}`;
}

/** `source billing/api`; when the source only claims to be a workload, also what it proved. */
export function describeSource({ source }: Connection, { claimedSource }: ConnectionFacts): string {
  if (claimedSource === null || source.workload === null) return `source ${partyName(source)}`;
  const proved = source.identity === null ? 'which proved no identity' : `which proved ${source.identity}`;
  return `source ${source.ip} (the address of ${workloadName(source.workload)}, ${proved})`;
}

export function describeDestination({ destination }: Connection): string {
  return `destination ${partyName(destination)}`;
}

function partyName({ workload, identity, ip }: Party): string {
  if (workload !== null) return workloadName(workload);
  const proved = identity === null ? undefined : parseSpiffeId(identity);
  return proved === undefined ? ip : `${ip} (service account ${serviceAccountName(proved)})`;
}
