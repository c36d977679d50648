import { formatSpiffeId } from '../../../shared/identity.js';
import type { Connection, Party } from '../../../shared/policy/connection.js';
import { matchFieldNames } from '../../../shared/policy/match-fields.js';
import { isPortName, matchesPorts } from '../../../shared/policy/prepared/prepared-rule.js';
import type { CompiledRule, PeerMatch, RulePort, Snapshot } from '../../../shared/policy/snapshot.js';
import type { PartyChange } from '../../resources/match/peer-field.js';
import { segmentMembersOf, type PeerGroups } from '../../compile/segment-members.js';
import { usePeerField } from '../../resources/match/peer-fields.js';
import { mayBeAnyOf } from '../pairs/peer-filter.js';
import { wantedByPolicies } from './policy-wishes.js';
import { workloadName } from '../../../shared/routing/names.js';

/** A connection that differs from another in one fact. */
export type FactChange = {
  readonly side: 'source' | 'destination' | 'connection';
  readonly fact: string;
  readonly is: string | null;
  readonly wouldBe: string;
  readonly connection: Connection;
  /** The time of the connection in milliseconds since 1970; null: now. */
  readonly atMs: number | null;
};

/** Peers that a rule requires of one side. */
export type Wish = { readonly side: 'source' | 'destination'; readonly peers: readonly PeerMatch[] };

/**
 * Single changes after which a rule with the other verdict would match, without duplicates, in this order: within the
 * namespace, to another namespace, addresses and nodes. A rule that two facts keep from matching gives none.
 */
export function changesOf(
  snapshot: Snapshot,
  connection: Connection,
  verdict: 'allow' | 'deny',
  nowMs: number,
): FactChange[] {
  const changes: Ranked[] = [...identityChanges(connection, snapshot)];
  const asked = new AskedPeers({ connection, snapshot });
  for (const rule of snapshot.rules) {
    if (rule.action === verdict || rule.mode === 'audit') continue;
    changes.push(...changesForRule(rule, connection, asked, nowMs));
  }
  const wishes = wantedByPolicies(snapshot, connection);
  for (const { side, peers } of wishes.peers) changes.push(...asked.changes(side, [peers]));
  for (const port of wishes.ports) changes.push(portChange(connection, port));
  const distinct = new Map<string, Ranked>();
  for (const ranked of changes) {
    const { side, fact, wouldBe } = ranked.change;
    const key = `${side} ${fact} ${wouldBe}`;
    const known = distinct.get(key);
    if (known === undefined || ranked.cost < known.cost) distinct.set(key, ranked);
  }
  return [...distinct.values()].sort((a, b) => a.cost - b.cost).map(({ change }) => change);
}

/** Lower is a smaller change. */
type Ranked = { readonly cost: number; readonly change: FactChange };

/** Changes one of source, destination, port and time, if it alone keeps the rule from matching. */
function changesForRule(rule: CompiledRule, connection: Connection, asked: AskedPeers, nowMs: number): Ranked[] {
  const { destination, port } = connection;
  const [from, to] = [asked.groupsOf(rule.from), asked.groupsOf(rule.to)];
  const isInTime = (rule.validFromMs ?? nowMs) <= nowMs && nowMs < (rule.expiresAtMs ?? Infinity);
  const misses = [
    !asked.mayBeIn('source', from),
    !asked.mayBeIn('destination', to),
    !matchesPorts(rule.ports, port, destination.workload?.ports ?? null),
    !isInTime,
  ];
  const missed = misses.filter(Boolean).length;
  if (missed > 1) return [];
  if (misses[2] === true) return nearestPorts(rule.ports, connection).map((near) => portChange(connection, near));
  if (misses[3] === true) return timeChanges(rule, connection, nowMs);
  // If neither side certainly misses, an address or a proof of identity does.
  const ofSource = misses[1] === true ? [] : asked.changes('source', from);
  const ofDestination = misses[0] === true ? [] : asked.changes('destination', to);
  return [...ofSource, ...ofDestination];
}

/** The end of each range that is nearer to the port, and what the names stand for. */
function nearestPorts(ports: readonly RulePort[], { destination, port }: Connection): number[] {
  return ports.flatMap((entry) => {
    if (!isPortName(entry)) return [port < entry[0] ? entry[0] : entry[1]];
    const named = destination.workload?.ports?.[entry];
    return named === undefined ? [] : [named];
  });
}

/** Asks each group of peers once: thousands of rules refer to the same segments. */
class AskedPeers {
  readonly #connection: Connection;
  readonly #snapshot: Snapshot;
  readonly #mayBeIn = {
    source: new Map<readonly PeerMatch[], boolean>(),
    destination: new Map<readonly PeerMatch[], boolean>(),
  };
  readonly #changed = { source: new Set<readonly PeerMatch[]>(), destination: new Set<readonly PeerMatch[]>() };

  constructor(init: { readonly connection: Connection; readonly snapshot: Snapshot }) {
    this.#connection = init.connection;
    this.#snapshot = init.snapshot;
  }

  groupsOf(peers: CompiledRule['from']): PeerGroups {
    return segmentMembersOf(this.#snapshot).groupsOf(peers);
  }

  mayBeIn(side: Wish['side'], groups: PeerGroups): boolean {
    return groups.length === 0 || groups.some((group) => this.#mayBeInGroup(side, group));
  }

  /** Only for groups that were not asked before: the others have given theirs. */
  changes(side: Wish['side'], groups: PeerGroups): Ranked[] {
    const fresh = groups.filter((group) => !this.#changed[side].has(group));
    for (const group of fresh) this.#changed[side].add(group);
    return fresh.flatMap((group) => peerChanges(side, group, this.#connection, this.#snapshot));
  }

  #mayBeInGroup(side: Wish['side'], group: readonly PeerMatch[]): boolean {
    let answer = this.#mayBeIn[side].get(group);
    if (answer === undefined) {
      const party = this.#connection[side];
      answer = mayBeAnyOf(group)({ name: '', party, isMeshed: party.identity !== null });
      this.#mayBeIn[side].set(group, answer);
    }
    return answer;
  }
}

function portChange(connection: Connection, port: number): Ranked {
  const change = {
    side: 'connection',
    fact: 'port',
    is: String(connection.port),
    wouldBe: String(port),
    atMs: null,
  } as const;
  return { cost: 3, change: { ...change, connection: { ...connection, port } } };
}

function timeChanges({ validFromMs, expiresAtMs }: CompiledRule, connection: Connection, nowMs: number): Ranked[] {
  const isLate = expiresAtMs !== null && nowMs >= expiresAtMs;
  const atMs = isLate ? expiresAtMs - 1 : validFromMs;
  if (atMs === null) return [];
  const wouldBe = new Date(atMs).toISOString();
  return [
    {
      cost: 2,
      change: { side: 'connection', fact: 'time', is: new Date(nowMs).toISOString(), wouldBe, connection, atMs },
    },
  ];
}

/** A source that only claims to be a workload would match as that workload if it proved its identity. */
function identityChanges(connection: Connection, { trustDomain }: Snapshot): Ranked[] {
  const { workload, identity } = connection.source;
  if (workload === null) return [];
  const own = formatSpiffeId({ trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount });
  if (identity === own) return [];
  const party = { ...connection.source, identity: own };
  return [ranked('source', { cost: 0, fact: 'proved identity', is: identity, wouldBe: own, party }, connection)];
}

/** For each peer: changes of the one fact that keeps the side from matching. */
function peerChanges(
  side: Wish['side'],
  peers: readonly PeerMatch[],
  connection: Connection,
  { trustDomain }: Snapshot,
): Ranked[] {
  const changes = peers.flatMap((peer) =>
    matchFieldNames.flatMap(
      (field) => usePeerField(field, peer, (row, value) => row.changes(value, connection[side], trustDomain)) ?? [],
    ),
  );
  return changes.map((change) => ranked(side, change, connection));
}

function ranked(side: Wish['side'], { cost, fact, is, wouldBe, party }: PartyChange, connection: Connection): Ranked {
  return { cost, change: { side, fact, is, wouldBe, connection: { ...connection, [side]: party }, atMs: null } };
}

/** `billing/db`, or the address of a party without a workload. */
export function partyName({ workload, ip }: Party): string {
  return workload === null ? ip : workloadName(workload);
}
