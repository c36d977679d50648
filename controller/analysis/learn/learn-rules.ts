import type { FlowRecord } from '../../../shared/wire/flows.js';
import { targetPortOf } from '../../../shared/routing/destination.js';
import type { RegistryEntry, ServicePort } from '../../../shared/routing/registry-entry.js';
import {
  conversationKey,
  conversations,
  flowEndName,
  type Conversation,
  type TellingEnds,
} from '../flows/conversations.js';
import { networksNote } from '../flows/recorded-networks.js';
import { lookupOf } from '../registry/registry-lookup.js';
import { LearnedPeers, type LearnedParty, type LearnedPeer, type NamedPeers } from './learn-peer.js';
import { learnedName } from './learned-name.js';
import { serviceName, workloadName, type NodeName } from '../../../shared/routing/names.js';

/** A SegmentationRule as it is written to a file. */
export type LearnedRule = {
  readonly apiVersion: 'culvert.dev/v1';
  readonly kind: 'SegmentationRule';
  readonly metadata: { readonly name: string; readonly annotations: Readonly<Record<string, string>> };
  readonly spec: {
    readonly tier: 'team';
    readonly priority: number;
    readonly action: 'allow' | 'deny';
    readonly mode: 'audit';
    readonly from?: readonly LearnedPeer[];
    readonly to: readonly LearnedPeer[];
    readonly ports?: readonly (number | string)[];
    readonly reason: string;
  };
};

/** A conversation that no rule was made of. */
export type NotLearned = {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly connections: number;
  readonly why: string;
};

export type Learned = {
  /** By name. Once they are promoted, the denying ones last, nothing gets through but what was seen. */
  readonly rules: readonly LearnedRule[];
  readonly notLearned: readonly NotLearned[];
  readonly notSeen: NotSeen;
  /** That rules allow networks of which only single addresses may have been seen, and which; null: none does. */
  readonly wider: string | null;
};

/** What there is no evidence of: it may be idle, or of a season that the records do not cover. */
export type NotSeen = {
  /** `namespace/name` of workloads that received no connection. */
  readonly destinations: readonly string[];
  /** `namespace/name` of workloads that opened no connection. */
  readonly sources: readonly string[];
  /** `namespace/name:port` of services whose endpoints received no connection on that port. */
  readonly servicePorts: readonly string[];
};

/** Allowing comes before denying; both come after rules that people write with the usual priorities. */
const allowPriority = 5000;
const denyPriority = 5001;
/** More of the names of sources are counted, not listed. */
const maxNamed = 8;

export type LearnInput = {
  readonly flows: readonly FlowRecord[];
  readonly entries: readonly RegistryEntry[];
  readonly trustDomain: string;
  /** The ServiceEntries. */
  readonly externals: readonly { readonly name: string }[];
  /** Only what is dialled in this namespace, and what it dials outside the mesh; null: everything. */
  readonly namespace?: string | null;
  /** A conversation of fewer connections is not learned. */
  readonly minConnections?: number;
};

/**
 * The least that has to be allowed so that everything goes on which was seen working, where every agent that can see it
 * says so: for each destination one rule for each set of sources that use the same ports, and one that denies the rest, all
 * in mode audit. Depends on nothing but what the records say: the same records give the same rules.
 */
export function learnRules(input: LearnInput): Learned {
  const { flows, entries, trustDomain, externals, namespace = null, minConnections = 1 } = input;
  const peers = new LearnedPeers({ registry: lookupOf(entries), trustDomain, entries, externals });
  const targets = new Map<string, Target>();
  const notLearned: NotLearned[] = [];
  const evidence: Evidence[] = [];
  const all = conversations(flows.filter(({ toldBy }) => toldBy !== 'one'));
  for (const conversation of all) {
    if (!isIn(namespace, conversation)) continue;
    const { source, destination, port, confirmed, allowed, denied } = conversation;
    const refuse = (why: string): void => {
      notLearned.push({ ...namesOf(conversation), port, connections: allowed + denied, why });
    };
    const [from, to] = [peers.source(source), peers.destination(destination)];
    const isOwn = source.workload !== null && source.workload === destination.workload;
    if (isOwn) refuse('a workload reaches itself without a rule');
    else if (confirmed === 0) refuse(whyIdle(conversation));
    else if (confirmed < minConnections) refuse(`it was seen fewer than ${minConnections} times`);
    else if (port === 0) refuse('the record does not say the port');
    else if ('why' in from) refuse(from.why);
    else if ('why' in to) refuse(to.why);
    else evidence.push({ conversation, from, to, refuse });
  }
  const tellers = tellersOf(evidence);
  for (const { conversation, from, to, refuse } of evidence) {
    const nodes = tellers.get(evidenceKey({ conversation, from, to })) ?? new Set();
    const [source, destination] = [asTold(from, nodes), asTold(to, nodes)];
    if (source === null || destination === null) refuse('one node tells it, and the account runs on others too');
    else {
      const key = JSON.stringify(destination.peers);
      const isInside = conversation.destination.workload !== null;
      const target = targets.get(key) ?? new Target(destination.peers, destination.name, isInside);
      targets.set(key, target);
      target.add(source, conversation);
    }
  }
  const known = new Set(all.filter(({ confirmed }) => confirmed > 0).map(conversationKey));
  const doubtful = conversations(flows.filter((flow) => flow.toldBy === 'one' && !known.has(conversationKey(flow))));
  for (const conversation of doubtful) {
    if (!isIn(namespace, conversation)) continue;
    const { port, allowed, denied, worked, toldBy } = conversation;
    const why = worked === 0 ? whyIdle(conversation) : doubts[toldBy ?? 'differently'];
    notLearned.push({ ...namesOf(conversation), port, connections: allowed + denied, why });
  }
  const rules = [...targets.values()].flatMap((target) => target.rules());
  return {
    rules: withUniqueNames(rules).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    notLearned,
    notSeen: notSeen(all, entries, namespace),
    wider: networksNote(
      rules.flatMap(({ spec }) => [...(spec.from ?? []), ...spec.to].flatMap(({ cidr }) => cidr ?? [])),
    ),
  };
}

type LearnedEnd = Exclude<LearnedParty, { readonly why: string }>;
type Evidence = {
  readonly conversation: Conversation;
  readonly from: LearnedEnd;
  readonly to: LearnedEnd;
  readonly refuse: (why: string) => void;
};

/** Conversations of the same accounts on the same port are evidence for one rule. */
function evidenceKey({ conversation, from, to }: Omit<Evidence, 'refuse'>): string {
  return JSON.stringify([from.peers, to.peers, conversation.port]);
}

/** The nodes that tell of each rule. */
function tellersOf(evidence: readonly Evidence[]): ReadonlyMap<string, ReadonlySet<NodeName>> {
  const tellers = new Map<string, Set<NodeName>>();
  for (const each of evidence) {
    const key = evidenceKey(each);
    const nodes = tellers.get(key) ?? new Set();
    tellers.set(key, nodes);
    for (const node of each.conversation.tellers) nodes.add(node);
  }
  return tellers;
}

/**
 * The peers that all replicas share, where two nodes tell of the rule or its workloads are all on the node that does. Else
 * this workload alone: one node must not open what others run under the same account. Null: it is not known any more.
 */
function asTold(end: LearnedEnd, tellers: ReadonlySet<NodeName>): NamedPeers | null {
  const isShared = tellers.size > 1 || [...end.nodes].every((node) => tellers.has(node));
  return isShared ? end : end.alone;
}

function namesOf({ source, destination }: Conversation): Pick<NotLearned, 'source' | 'destination'> {
  return { source: flowEndName(source), destination: flowEndName(destination) };
}

function whyIdle({ denied }: Conversation): string {
  return denied > 0 ? 'it was refused' : 'it never reached an application';
}

/** Why a conversation proves nothing. */
const doubts: Readonly<Record<TellingEnds, string>> = {
  source: "only the source's agent tells it",
  destination: "only the destination's agent tells it",
  both: 'the agents of its two ends tell different things',
  differently: 'the agents of its two ends tell different things',
};

function isIn(
  namespace: string | null,
  { source, destination }: Pick<Conversation, 'source' | 'destination'>,
): boolean {
  if (namespace === null) return true;
  return (destination.workload ?? source.workload ?? '').startsWith(`${namespace}/`);
}

type Usage = { readonly peers: readonly LearnedPeer[]; readonly name: string; readonly seen: Conversation[] };

/** One destination, and who uses it. */
class Target {
  readonly #to: readonly LearnedPeer[];
  readonly #name: string;
  readonly #isInside: boolean;
  readonly #sources = new Map<string, Usage>();

  constructor(to: readonly LearnedPeer[], name: string, isInside: boolean) {
    this.#to = to;
    this.#name = name;
    this.#isInside = isInside;
  }

  add({ peers, name }: { peers: readonly LearnedPeer[]; name: string }, conversation: Conversation): void {
    const key = JSON.stringify(peers);
    const usage = this.#sources.get(key);
    if (usage === undefined) this.#sources.set(key, { peers, name, seen: [conversation] });
    else usage.seen.push(conversation);
  }

  rules(): LearnedRule[] {
    const byPorts = new Map<string, Usage[]>();
    for (const [, usage] of [...this.#sources].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const key = portsOf(usage.seen).join(' ');
      byPorts.set(key, [...(byPorts.get(key) ?? []), usage]);
    }
    const rules = [...byPorts.values()].map((usages) => this.#allow(usages));
    return this.#isInside ? [...rules, this.#denyOthers()] : rules;
  }

  #allow(usages: readonly Usage[]): LearnedRule {
    const seen = usages.flatMap((usage) => usage.seen);
    const ports = portsOf(seen);
    const names = usages.map(({ name }) => name).sort();
    const connections = seen.reduce((sum, { confirmed }) => sum + confirmed, 0);
    const days = Math.max(...seen.map(({ daysSeen }) => daysSeen));
    const first = dateOf(Math.min(...seen.map(({ firstSeenMs }) => firstSeenMs)));
    const last = dateOf(Math.max(...seen.map(({ lastSeenMs }) => lastSeenMs)));
    const listed =
      names.length > maxNamed
        ? `${names.slice(0, maxNamed).join(', ')} and ${names.length - maxNamed} more`
        : names.join(', ');
    const peers = [...usages.flatMap((usage) => usage.peers), ...this.#to];
    const note = networksNote(peers.flatMap(({ cidr }) => cidr ?? []));
    const wider = note === null ? '' : ` (${note})`;
    return {
      ...this.#base(learnedName([this.#name, ...ports.map(String)]), {
        'culvert.dev/learned-connections': String(connections),
        'culvert.dev/learned-days': String(days),
        'culvert.dev/learned-first-seen': first,
        'culvert.dev/learned-last-seen': last,
      }),
      spec: {
        tier: 'team',
        priority: allowPriority,
        action: 'allow',
        mode: 'audit',
        from: usages.flatMap(({ peers }) => peers),
        to: this.#to,
        ports,
        reason:
          `learned: ${connections} connections on ${days} ${days === 1 ? 'day' : 'days'} until ${last}${wider}, from ${listed}`.slice(
            0,
            1024,
          ),
      },
    };
  }

  #denyOthers(): LearnedRule {
    return {
      ...this.#base(learnedName([this.#name, 'others']), {}),
      spec: {
        tier: 'team',
        priority: denyPriority,
        action: 'deny',
        mode: 'audit',
        to: this.#to,
        reason: `learned: nothing else was seen to reach ${this.#name}`,
      },
    };
  }

  #base(name: string, seen: Readonly<Record<string, string>>): Pick<LearnedRule, 'apiVersion' | 'kind' | 'metadata'> {
    const annotations = { 'culvert.dev/learned': 'true', ...seen };
    return { apiVersion: 'culvert.dev/v1', kind: 'SegmentationRule', metadata: { name, annotations } };
  }
}

/** Neighbouring ports become a range; nothing that was not seen is added. */
function portsOf(seen: readonly Conversation[]): (number | string)[] {
  const ports = [...new Set(seen.map(({ port }) => port))].sort((a, b) => a - b);
  const ranges: [number, number][] = [];
  for (const port of ports) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] + 1 === port) last[1] = port;
    else ranges.push([port, port]);
  }
  return ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`));
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

/** Different things can come to the same short name; each of them then gets its own hash. */
function withUniqueNames(rules: readonly LearnedRule[]): LearnedRule[] {
  const counts = new Map<string, number>();
  for (const { metadata } of rules) counts.set(metadata.name, (counts.get(metadata.name) ?? 0) + 1);
  return rules.map((rule) => {
    const { name, annotations } = rule.metadata;
    if ((counts.get(name) ?? 0) < 2) return rule;
    return {
      ...rule,
      metadata: {
        name: learnedName([name], JSON.stringify([rule.spec.to, rule.spec.from, rule.spec.ports])),
        annotations,
      },
    };
  });
}

function notSeen(all: readonly Conversation[], entries: readonly RegistryEntry[], namespace: string | null): NotSeen {
  const worked = all.filter(({ confirmed }) => confirmed > 0);
  const reached = new Set(worked.map(({ destination }) => destination.workload));
  const dialled = new Set(worked.map(({ source }) => source.workload));
  const ports = new Set(worked.map(({ destination, port }) => `${destination.workload ?? ''}:${port}`));
  const registry = lookupOf(entries);
  const inScope = entries.filter((entry) => namespace === null || entry.namespace === namespace);
  const workloads = inScope.filter((entry) => entry.kind === 'workload');
  const names = workloads.map(workloadName).sort();
  const servicePorts = inScope.flatMap((entry) => {
    // Records name no workload for endpoints outside the mesh.
    if (entry.kind !== 'service' || entry.endpoints !== undefined) return [];
    const endpoints = registry.endpointsOf(entry);
    const isUsed = (served: ServicePort): boolean =>
      endpoints.some((endpoint) => ports.has(`${workloadName(endpoint)}:${targetPortOf(served, endpoint) ?? ''}`));
    return entry.ports.filter((served) => !isUsed(served)).map(({ port }) => `${serviceName(entry)}:${port}`);
  });
  return {
    destinations: names.filter((name) => !reached.has(name)),
    sources: names.filter((name) => !dialled.has(name)),
    servicePorts: servicePorts.sort(),
  };
}
