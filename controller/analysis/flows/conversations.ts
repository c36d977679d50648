import { reasonInfo, type Reason } from '../../../shared/reasons.js';
import type { FlowParty, FlowRecord } from '../../../shared/wire/flows.js';

/**
 * All records between two ends on one port, merged. Both agents record a connection, and each kind of ending (by rule,
 * reason and revision) is a separate record.
 */
export type Conversation = {
  readonly source: FlowParty;
  readonly destination: FlowParty;
  readonly port: number;
  /** Connections that were allowed, and those that were refused or terminated; each counts once. */
  readonly allowed: number;
  readonly denied: number;
  /** The allowed connections that reached the application. Scans of closed ports do not. */
  readonly worked: number;
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  /** When the last connection was allowed; null: none was. */
  readonly lastAllowedMs: number | null;
  /** The minimum number of days (UTC) on which it was seen. */
  readonly daysSeen: number;
  /** Rules that decided (`SegmentationRule/db-only`), and audited ones that would have denied. Sorted. */
  readonly rules: readonly string[];
  readonly audited: readonly string[];
};

/** Merges records into conversations. The order depends only on the contents of the records. */
export function conversations(flows: readonly FlowRecord[]): Conversation[] {
  const groups = new Map<string, FlowRecord[]>();
  for (const flow of flows) {
    const key = conversationKey(flow);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [flow]);
    else group.push(flow);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => merge(group));
}

/** Omits the identity of the destination, which only one of the two agents may know. */
export function conversationKey({
  source,
  destination,
  port,
}: Pick<FlowRecord, 'source' | 'destination' | 'port'>): string {
  const to = destination.workload ?? destination.cidr ?? destination.identity ?? '';
  return [source.workload ?? '', source.identity ?? '', source.cidr ?? '', to, String(port).padStart(5, '0')].join('|');
}

function merge(group: readonly FlowRecord[]): Conversation {
  const { source, destination, port } = group[0] as FlowRecord;
  const allowing = group.filter(({ verdict }) => verdict === 'allow');
  return {
    source,
    destination: group.map((flow) => flow.destination).find(({ identity }) => identity !== null) ?? destination,
    port,
    allowed: seenOnce(allowing),
    worked: seenOnce(allowing.filter(({ reason }) => hasReached(reason))),
    denied: seenOnce(group.filter(({ verdict }) => verdict === 'deny')),
    firstSeenMs: Math.min(...group.map(({ firstSeenMs }) => firstSeenMs)),
    lastSeenMs: Math.max(...group.map(({ lastSeenMs }) => lastSeenMs)),
    lastAllowedMs: allowing.length === 0 ? null : Math.max(...allowing.map(({ lastSeenMs }) => lastSeenMs)),
    daysSeen: Math.max(...group.map(daysOf)),
    rules: distinct(group.map(({ rule }) => rule).filter((rule) => rule !== '')),
    audited: distinct(group.flatMap(({ audited }) => audited)),
  };
}

/** Whether a connection that ended like this had reached the application. */
function hasReached(reason: Reason): boolean {
  const { side } = reasonInfo(reason);
  return (
    side === 'none' || side === 'client' || reason === 'PEER_RESET' || reason === 'DRAIN' || isEndedByLimit(reason)
  );
}

function isEndedByLimit(reason: Reason): boolean {
  return reason === 'IDLE_TIMEOUT' || reason === 'MAX_DURATION' || reason === 'POLICY_TERMINATED';
}

/**
 * The larger count of the two agents is the total: a connection refused at the source never reaches the other agent.
 */
function seenOnce(flows: readonly FlowRecord[]): number {
  const sum = (direction: FlowRecord['direction']): number =>
    flows.reduce((total, flow) => (flow.direction === direction ? total + flow.connections : total), 0);
  return Math.max(sum('outbound'), sum('inbound'));
}

const dayMs = 86_400_000;

function daysOf({ daysSeen, firstSeenMs, lastSeenMs }: FlowRecord): number {
  if (daysSeen !== undefined) return daysSeen;
  return Math.floor(firstSeenMs / dayMs) === Math.floor(lastSeenMs / dayMs) ? 1 : 2;
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)].sort();
}

/** `billing/db`, `203.0.113.0/24`, the account of an identity, or `unknown`. */
export function flowEndName({ workload, cidr, identity }: FlowParty): string {
  return workload ?? cidr ?? identity ?? 'unknown';
}
