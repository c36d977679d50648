import type { NodeName } from '../../../shared/routing/names.js';
import { outcomeOf, type FlowParty, type FlowRecord } from '../../../shared/wire/flows.js';

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
  /** Of these, those that every agent tells which can see them. */
  readonly confirmed: number;
  /** The nodes whose agents tell that it worked. */
  readonly tellers: ReadonlySet<NodeName>;
  /** Null: only one agent sees it, or one agent sees both ends. */
  readonly toldBy: TellingEnds | null;
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

/**
 * Which ends of a conversation tell it, where an agent sees each of the two. `differently`: both do, and not with the same
 * outcome.
 */
export type TellingEnds = 'both' | 'source' | 'destination' | 'differently';

/**
 * Merges records into conversations, without probes of hosts, which no rule decides. The order depends only on the contents of
 * the records.
 */
export function conversations(flows: readonly FlowRecord[]): Conversation[] {
  const groups = new Map<string, FlowRecord[]>();
  for (const flow of flows) {
    if (flow.probe === true) continue;
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
  const working = group.filter((flow) => outcomeOf(flow) === 'worked');
  return {
    source,
    destination: group.map((flow) => flow.destination).find(({ identity }) => identity !== null) ?? destination,
    port,
    allowed: seenOnce(allowing),
    worked: seenOnce(working),
    confirmed: confirmedOf(working),
    tellers: new Set(working.map(({ node }) => node)),
    toldBy: tellingEnds(group),
    denied: seenOnce(group.filter(({ verdict }) => verdict === 'deny')),
    firstSeenMs: Math.min(...group.map(({ firstSeenMs }) => firstSeenMs)),
    lastSeenMs: Math.max(...group.map(({ lastSeenMs }) => lastSeenMs)),
    lastAllowedMs: allowing.length === 0 ? null : Math.max(...allowing.map(({ lastSeenMs }) => lastSeenMs)),
    daysSeen: Math.max(...group.map(daysOf)),
    rules: distinct(group.map(({ rule }) => rule).filter((rule) => rule !== '')),
    audited: distinct(group.flatMap(({ audited }) => audited)),
  };
}

/**
 * The larger count of the two agents is the total: a connection refused at the source never reaches the other agent.
 */
function seenOnce(flows: readonly FlowRecord[]): number {
  return Math.max(sumOf(flows, 'outbound'), sumOf(flows, 'inbound'));
}

/** The smaller count where two agents have to tell it: the other one has no second voice. */
function confirmedOf(working: readonly FlowRecord[]): number {
  const told = working.filter(({ toldBy }) => toldBy !== 'one');
  if (!told.some(({ toldBy }) => toldBy === 'both')) return seenOnce(told);
  return Math.min(sumOf(told, 'outbound'), sumOf(told, 'inbound'));
}

function sumOf(flows: readonly FlowRecord[], direction: FlowRecord['direction']): number {
  return flows.reduce((total, flow) => (flow.direction === direction ? total + flow.connections : total), 0);
}

function tellingEnds(group: readonly FlowRecord[]): TellingEnds | null {
  if (group.every(({ toldBy }) => toldBy === undefined)) return null;
  const directions = new Set(group.map(({ direction }) => direction));
  if (directions.size === 2) return group.some(({ toldBy }) => toldBy === 'both') ? 'both' : 'differently';
  return directions.has('outbound') ? 'source' : 'destination';
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
