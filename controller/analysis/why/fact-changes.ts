import { parseCidr } from '../../../shared/address.js';
import { formatSpiffeId, parseSpiffeId } from '../../../shared/identity.js';
import type { Connection, Party } from '../../../shared/policy/connection.js';
import type { CompiledRule, PeerMatch, Snapshot } from '../../../shared/policy/snapshot.js';
import { mayBeAnyOf } from '../pairs/peer-filter.js';
import { wantedByPolicies } from './policy-wishes.js';
import { commonPort } from '../lint/rule-cover.js';

/** A connection that differs from another in one fact. */
export type FactChange = {
  readonly side: 'source' | 'destination' | 'connection';
  readonly fact: string;
  readonly is: string | null;
  readonly wouldBe: string;
  readonly connection: Connection;
  /** When it is made; null: now. */
  readonly atMs: number | null;
};

/** What a rule would like one side to be. */
export type Wish = { readonly side: 'source' | 'destination'; readonly peers: readonly PeerMatch[] };

/** Values of one list that are tried; the nearest by name come first. */
const maxValues = 16;

/**
 * The changes that rules of the other verdict would need to match, each once: first those that keep the namespace, then
 * those of another, then addresses and nodes. A rule that two facts keep from matching gives none.
 */
export function changesOf(
  snapshot: Snapshot,
  connection: Connection,
  verdict: 'allow' | 'deny',
  nowMs: number,
): FactChange[] {
  const changes: Ranked[] = [...identityChanges(connection, snapshot)];
  for (const rule of snapshot.rules) {
    if (rule.action === verdict || rule.mode === 'audit') continue;
    changes.push(...changesForRule(rule, connection, snapshot, nowMs));
  }
  const wishes = wantedByPolicies(snapshot, connection);
  for (const { side, peers } of wishes.peers) changes.push(...peerChanges(side, peers, connection, snapshot));
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

/** Changes only of what keeps the rule from matching, when that is one of source, destination, port and time. */
function changesForRule(rule: CompiledRule, connection: Connection, snapshot: Snapshot, nowMs: number): Ranked[] {
  const { source, destination, port } = connection;
  const isInTime = (rule.validFromMs ?? nowMs) <= nowMs && nowMs < (rule.expiresAtMs ?? Infinity);
  const misses = [
    !mayBeIn(rule.from, source),
    !mayBeIn(rule.to, destination),
    commonPort(rule.ports, [[port, port]]) === undefined,
    !isInTime,
  ];
  const missed = misses.filter(Boolean).length;
  if (missed > 1) return [];
  if (misses[2] === true) return rule.ports.map(([first, last]) => portChange(connection, port < first ? first : last));
  if (misses[3] === true) return timeChanges(rule, connection, nowMs);
  // Where nothing is certain to miss, an address or a proof does.
  const ofSource = misses[1] === true ? [] : peerChanges('source', rule.from, connection, snapshot);
  const ofDestination = misses[0] === true ? [] : peerChanges('destination', rule.to, connection, snapshot);
  return [...ofSource, ...ofDestination];
}

function mayBeIn(peers: readonly PeerMatch[], party: Party): boolean {
  return peers.length === 0 || mayBeAnyOf(peers)({ name: '', party, isMeshed: party.identity !== null });
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

/** A source that only seems to be a workload would be one if it proved it. */
function identityChanges(connection: Connection, { trustDomain }: Snapshot): Ranked[] {
  const { workload, identity } = connection.source;
  if (workload === null) return [];
  const own = formatSpiffeId({ trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount });
  if (identity === own) return [];
  return [ranked(0, 'source', 'proved identity', identity, own, connection, { ...connection.source, identity: own })];
}

/** For each of the peers: the one fact that keeps the side out of it. */
function peerChanges(
  side: Wish['side'],
  peers: readonly PeerMatch[],
  connection: Connection,
  snapshot: Snapshot,
): Ranked[] {
  const party = connection[side];
  return peers.flatMap((peer) => [
    ...accountChanges(side, peer, party, connection, snapshot),
    ...labelChanges(side, peer, party, connection),
    ...otherChanges(side, peer, party, connection),
  ]);
}

function accountChanges(
  side: Wish['side'],
  { serviceAccounts = [], namespaces = [], workloads = [] }: PeerMatch,
  party: Party,
  connection: Connection,
  { trustDomain }: Snapshot,
): Ranked[] {
  const proved = party.identity === null ? undefined : parseSpiffeId(party.identity);
  const is = party.workload ?? proved;
  if (is === undefined) return [];
  const as = (namespace: string, serviceAccount: string): Party => ({
    ...party,
    identity: party.identity === null ? null : formatSpiffeId({ trustDomain, namespace, serviceAccount }),
    workload: party.workload === null ? null : { ...party.workload, namespace, serviceAccount },
  });
  const accounts = nearest(serviceAccounts, `${is.namespace}/`).map((account) => {
    const [namespace = '', serviceAccount = ''] = account.split('/');
    const cost = namespace === is.namespace ? 1 : 2;
    const now = `${is.namespace}/${is.serviceAccount}`;
    return ranked(cost, side, 'service account', now, account, connection, as(namespace, serviceAccount));
  });
  const spaces = nearest(namespaces, is.namespace).map((namespace) =>
    ranked(3, side, 'namespace', is.namespace, namespace, connection, as(namespace, is.serviceAccount)),
  );
  const { workload } = party;
  if (workload === null) return [...accounts, ...spaces];
  const names = nearest(workloads, `${workload.namespace}/`).flatMap((name) => {
    const [namespace = '', short = ''] = name.split('/');
    if (namespace !== workload.namespace) return [];
    const renamed = { ...party, workload: { ...workload, name: short } };
    return [ranked(3, side, 'workload', `${namespace}/${workload.name}`, name, connection, renamed)];
  });
  return [...accounts, ...spaces, ...names];
}

/** Only where one label is missing or another: two would be two changes. */
function labelChanges(side: Wish['side'], { labels = {} }: PeerMatch, party: Party, connection: Connection): Ranked[] {
  const { workload } = party;
  if (workload === null) return [];
  const missing = Object.entries(labels).filter(([name, value]) => workload.labels[name] !== value);
  const [first, ...others] = missing;
  if (first === undefined || others.length > 0) return [];
  const [name, value] = first;
  const changed = { ...party, workload: { ...workload, labels: { ...workload.labels, [name]: value } } };
  return [ranked(1, side, `label ${name}`, workload.labels[name] ?? null, value, connection, changed)];
}

function otherChanges(
  side: Wish['side'],
  { nodes = [], cidrs = [] }: PeerMatch,
  party: Party,
  connection: Connection,
): Ranked[] {
  const { workload } = party;
  const onNodes =
    workload === null
      ? []
      : nearest(nodes, '').map((node) =>
          ranked(5, side, 'node', workload.node, node, connection, { ...party, workload: { ...workload, node } }),
        );
  const isV6 = party.ip.includes(':');
  const addresses = nearest(cidrs, '').flatMap((text) => {
    const cidr = parseCidr(text);
    if (cidr === undefined || cidr.base.includes(':') !== isV6) return [];
    return [ranked(4, side, 'address', party.ip, cidr.base, connection, { ...party, ip: cidr.base })];
  });
  return [...onNodes, ...addresses];
}

function nearest(values: readonly string[], prefix: string): readonly string[] {
  const close = values.filter((value) => value.startsWith(prefix));
  return [...close, ...values.filter((value) => !value.startsWith(prefix))].slice(0, maxValues);
}

function ranked(
  cost: number,
  side: Wish['side'],
  fact: string,
  is: string | null,
  wouldBe: string,
  connection: Connection,
  party: Party,
): Ranked {
  return { cost, change: { side, fact, is, wouldBe, connection: { ...connection, [side]: party }, atMs: null } };
}

/** `billing/db`, or the address of who has no name. */
export function partyName({ workload, ip }: Party): string {
  return workload === null ? ip : `${workload.namespace}/${workload.name}`;
}
