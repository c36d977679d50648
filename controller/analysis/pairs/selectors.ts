import type { Clock } from '../../../shared/policy/connection.js';
import { peerNamespaces } from '../../compile/check/peer-namespaces.js';
import { segmentMembersOf } from '../../compile/segment-members.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
import { matchesPolicy, preparePolicy, selects } from '../../../shared/policy/prepared/prepared-authorization.js';
import { matchesPeers, preparePeer } from '../../../shared/policy/prepared/prepared-network-policy.js';
import { namespaceNameLabel } from '../../../shared/policy/prepared/namespace-labels.js';
import {
  isSegmentRef,
  plainSnapshot,
  type AuthorizationCondition,
  type AuthorizationSource,
  type CompiledAuthorizationPolicy,
  type CompiledClusterPolicy,
  type CompiledNetworkPolicy,
  type CompiledRule,
  type NetworkPolicyPeer,
  type PeerMatch,
  type RulePeer,
  type Snapshot,
} from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';
import { mayBeAnyOf } from './peer-filter.js';
import { PeerQuestions, questionRule } from './peer-questions.js';
import { EndFacts, strangerIn } from './end-facts.js';
import { connectionOf } from './predict.js';

/** A question that a rule asks about one end. Equal keys mean equal questions. */
export type Selector = {
  readonly key: string;
  readonly selects: (end: MeshParty) => boolean;
  /**
   * Workloads registered in other namespaces, and ends without a namespace, are certainly not selected. Null: any may
   * be.
   */
  readonly namespaces: ReadonlySet<string> | null;
};

export type Side = 'source' | 'destination';

/**
 * Creates the questions that the rules of one snapshot ask. Each is answered with the facts and the tests of the
 * evaluator, so this file does not duplicate how peers are matched.
 */
export class Selectors {
  readonly #snapshot: Snapshot;
  readonly #clock: Clock;
  readonly #known = new Map<string, Selector>();
  readonly #peers: PeerQuestions;
  readonly #facts: EndFacts;

  constructor({ snapshot, clock }: { snapshot: Snapshot; clock: Clock }) {
    this.#snapshot = snapshot;
    this.#clock = clock;
    this.#peers = new PeerQuestions({ setOf: (rules) => this.#only({ rules }, 'deny') });
    this.#facts = new EndFacts({ snapshot: this.#only({}, 'deny') });
  }

  /** Null: every party. `isDeny`: also match the workload that an unauthenticated source claims to be. */
  peers(side: Side, peers: readonly RulePeer[], isDeny: boolean): Selector | null {
    if (peers.length === 0) return null;
    const question = side === 'destination' ? 'destination' : isDeny ? 'denied source' : 'source';
    return this.#make(['peers', question, peers], () => {
      const selects = this.#peers.ask(question, peers);
      const namespaces = peerNamespaces(segmentMembersOf(this.#snapshot).matchesOf(peers));
      const written = peers.filter((peer): peer is PeerMatch => !isSegmentRef(peer));
      if (written.length < peers.length) return { selects, namespaces };
      const mayBe = mayBeAnyOf(written);
      return { selects: (end) => mayBe(end) && selects(end), namespaces };
    });
  }

  /** Whether the rollout of the rule includes this source. */
  rollout({ name, rollout }: CompiledRule): Selector {
    return this.#make(['rollout', name, rollout], () => {
      const set = this.#only({ rules: [questionRule({ name, rollout, action: 'deny' })] }, 'allow');
      return { selects: this.#asks(set, 'source', 'deny'), namespaces: null };
    });
  }

  /** Whether an AuthorizationPolicy selects this destination. */
  authorizationTarget({ namespace, selector }: CompiledAuthorizationPolicy): Selector {
    const { rootNamespace } = this.#snapshot.mesh;
    return this.#make(['authorization', namespace, selector, rootNamespace], () => {
      const policy = preparePolicy({ namespace, name: 'x', action: 'ALLOW', selector, rules: [] });
      const isOfAll = namespace === rootNamespace;
      return {
        selects: ({ party: { workload } }) =>
          workload !== null && (isOfAll || workload.namespace === namespace) && selects(policy, workload.labels),
        namespaces: isOfAll ? null : new Set([namespace]),
      };
    });
  }

  /** Null: every party. */
  authorizationSource(from: readonly AuthorizationSource[]): Selector | null {
    return from.length === 0 ? null : this.#authorization('source', { from, to: [] }, sourceNamespaces(from));
  }

  authorizationCondition(side: Side, condition: AuthorizationCondition): Selector {
    return this.#authorization(side, { from: [], to: [], when: [condition] });
  }

  #authorization(
    side: Side,
    rule: CompiledAuthorizationPolicy['rules'][number],
    namespaces: Selector['namespaces'] = null,
  ): Selector {
    return this.#make(['authorizationRule', side, rule], () => {
      const policy = preparePolicy({ namespace: '', name: 'x', action: 'DENY', selector: {}, rules: [rule] });
      // Policies are about destinations that are workloads.
      const isSubject = (end: MeshParty): boolean => side === 'source' || end.party.workload !== null;
      return { selects: (end) => isSubject(end) && matchesPolicy(policy, this.#facts.of(side, end)), namespaces };
    });
  }

  /** Whether a NetworkPolicy isolates this end. */
  networkTarget(side: Side, { namespace, podSelector }: CompiledNetworkPolicy): Selector {
    return this.#make(['network', side, namespace, podSelector], () => {
      const isSelected = preparePeer({ kind: 'pods', namespaceSelector: null, podSelector }, namespace);
      return { selects: (end) => isSelected(this.#facts.seeming(side, end)), namespaces: new Set([namespace]) };
    });
  }

  /** Whether this end is one of the peers of a NetworkPolicy in this namespace. Null: every end. */
  networkPeers(side: Side, namespace: string, peers: readonly NetworkPolicyPeer[]): Selector | null {
    if (peers.length === 0) return null;
    return this.#make(['networkPeers', side, namespace, peers], () => {
      const tests = peers.map((peer) => preparePeer(peer, namespace));
      return {
        selects: (end) => matchesPeers(tests, this.#facts.of(side, end)[side]),
        namespaces: networkPeerNamespaces(peers, namespace),
      };
    });
  }

  /** Whether a cluster policy is for this end. */
  clusterSubject(side: Side, subject: CompiledClusterPolicy['subject']): Selector {
    return this.#make(['clusterSubject', side, subject], () => {
      const isSelected = preparePeer({ kind: 'pods', ...subject }, '');
      return { selects: (end) => isSelected(this.#facts.seeming(side, end)), namespaces: null };
    });
  }

  /** Whether this end is a peer of a cluster policy; for a source also as the workload that it only claims to be. */
  clusterPeer(side: Side, peer: NetworkPolicyPeer): Selector {
    return this.#make(['clusterPeer', side, peer], () => {
      const isPeer = preparePeer(peer, '');
      return {
        selects: (end) => isPeer(this.#facts.of(side, end)[side]) || isPeer(this.#facts.seeming(side, end)),
        namespaces: null,
      };
    });
  }

  #make(key: unknown, make: () => Omit<Selector, 'key'>): Selector {
    // The answer depends on the snapshot's namespace labels and ServiceEntries.
    const text = JSON.stringify(key);
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const selector = { key: text, ...make() };
    this.#known.set(text, selector);
    return selector;
  }

  #only(part: Partial<Snapshot>, defaultAction: 'allow' | 'deny'): Snapshot {
    const { trustDomain, mesh, namespaces, externals, segments } = this.#snapshot;
    return {
      ...(part.rules === undefined || segments === undefined ? {} : { segments }),
      revision: 1,
      createdAt: '',
      createdBy: '',
      trustDomain,
      mesh: { ...mesh, mtls: 'PERMISSIVE', defaultAction, outbound: defaultAction },
      rules: [],
      authorizationPolicies: [],
      ...plainSnapshot,
      namespaces,
      externals,
      ...part,
    };
  }

  #asks(
    set: Snapshot,
    side: Side,
    wanted: 'allow' | 'deny',
    other: MeshParty = strangerIn('unused-namespace', set.trustDomain),
  ): (end: MeshParty) => boolean {
    return (end) => {
      const pair = side === 'source' ? { source: end, destination: other } : { source: other, destination: end };
      return evaluate(set, connectionOf({ ...pair, port: 1 }), this.#clock).verdict === wanted;
    };
  }
}

/** Null: any. */
function networkPeerNamespaces(peers: readonly NetworkPolicyPeer[], own: string): ReadonlySet<string> | null {
  const namespaces = new Set<string>();
  for (const peer of peers) {
    if (peer.kind === 'block') return null;
    const named =
      peer.namespaceSelector === null
        ? [own]
        : peer.namespaceSelector.find(({ key, operator }) => key === namespaceNameLabel && operator === 'In')?.values;
    if (named === undefined) return null;
    for (const namespace of named) namespaces.add(namespace);
  }
  return namespaces;
}

/** The namespaces of the identities that a source must have; null: any. */
function sourceNamespaces(from: readonly AuthorizationSource[]): ReadonlySet<string> | null {
  const found = new Set<string>();
  for (const { serviceAccounts, namespaces, principals } of from) {
    // The namespace is the third part of a principal: trust domain, `ns`, namespace, `sa`, account.
    const part = serviceAccounts === undefined && namespaces === undefined ? 2 : 0;
    const names = serviceAccounts ?? namespaces ?? principals;
    if (names?.every((name) => !name.includes('*')) !== true) return null;
    for (const name of names) found.add(name.split('/')[part] ?? '');
  }
  return found;
}
