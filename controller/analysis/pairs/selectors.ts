import type { IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import type { Clock, Party } from '../../../shared/policy/connection.js';
import { peerNamespaces } from '../../compile/check/peer-namespaces.js';
import { segmentMembersOf } from '../../compile/segment-members.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
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
 * Creates the questions that the rules of one snapshot ask. Each is answered by the evaluator with a set that contains
 * only the question, so this file does not duplicate how peers are matched.
 */
export class Selectors {
  readonly #snapshot: Snapshot;
  readonly #clock: Clock;
  readonly #known = new Map<string, Selector>();
  readonly #peers: PeerQuestions;

  constructor({ snapshot, clock }: { snapshot: Snapshot; clock: Clock }) {
    this.#snapshot = snapshot;
    this.#clock = clock;
    this.#peers = new PeerQuestions({ setOf: (rules) => this.#only({ rules }, 'deny') });
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
    return this.#make(['authorization', namespace, selector, this.#snapshot.mesh.rootNamespace], () => {
      const policy = { namespace, name: 'x', action: 'ALLOW', selector, rules: [] } as const;
      const selects = this.#asks(this.#only({ authorizationPolicies: [policy] }, 'allow'), 'destination', 'deny');
      const isOfAll = namespace === this.#snapshot.mesh.rootNamespace;
      return { selects, namespaces: isOfAll ? null : new Set([namespace]) };
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
      const namespace = this.#snapshot.mesh.rootNamespace;
      const policy = { namespace, name: 'x', action: 'DENY', selector: {}, rules: [rule] } as const;
      const selects = this.#asks(this.#only({ authorizationPolicies: [policy] }, 'allow'), side, 'deny');
      return { selects, namespaces };
    });
  }

  /** Whether a NetworkPolicy isolates this end. */
  networkTarget(side: Side, { namespace, podSelector }: CompiledNetworkPolicy): Selector {
    return this.#make(['network', side, namespace, podSelector], () => {
      const directions = side === 'source' ? { egress: [], ingress: null } : { ingress: [], egress: null };
      const set = this.#only({ networkPolicies: [{ namespace, name: 'x', podSelector, ...directions }] }, 'allow');
      return { selects: this.#asks(set, side, 'deny'), namespaces: new Set([namespace]) };
    });
  }

  /** Whether this end is one of the peers of a NetworkPolicy in this namespace. Null: every end. */
  networkPeers(side: Side, namespace: string, peers: readonly NetworkPolicyPeer[]): Selector | null {
    if (peers.length === 0) return null;
    return this.#make(['networkPeers', side, namespace, peers], () => {
      const rules = [{ peers, ports: [] }];
      const directions = side === 'source' ? { ingress: rules, egress: null } : { egress: rules, ingress: null };
      const set = this.#only({ networkPolicies: [{ namespace, name: 'x', podSelector: [], ...directions }] }, 'allow');
      const selects = this.#asks(set, side, 'allow', nobodyIn(namespace, this.#snapshot.trustDomain));
      return { selects, namespaces: networkPeerNamespaces(peers, namespace) };
    });
  }

  /** Whether a cluster policy is for this end. */
  clusterSubject(side: Side, subject: CompiledClusterPolicy['subject']): Selector {
    return this.#make(['clusterSubject', side, subject], () =>
      this.#clusterQuestion(side, { subject, peers: [] }, side),
    );
  }

  /** Whether this end is a peer of a cluster policy; for a source also as the workload that it only claims to be. */
  clusterPeer(side: Side, peer: NetworkPolicyPeer): Selector {
    const subject = { namespaceSelector: [], podSelector: [] };
    const other: Side = side === 'source' ? 'destination' : 'source';
    return this.#make(['clusterPeer', side, peer], () =>
      this.#clusterQuestion(side, { subject, peers: [peer] }, other),
    );
  }

  /** `of`: the side that the policy is for. */
  #clusterQuestion(
    side: Side,
    { subject, peers }: { subject: CompiledClusterPolicy['subject']; peers: readonly NetworkPolicyPeer[] },
    of: Side,
  ): Omit<Selector, 'key'> {
    const rules = [{ action: 'deny', peers, ports: [] }] as const;
    const directions = of === 'source' ? { egress: rules, ingress: [] } : { ingress: rules, egress: [] };
    const rank = { kind: 'ClusterNetworkPolicy', name: 'x', tier: 'platform', priority: 0 } as const;
    const set = this.#only({ clusterPolicies: [{ ...rank, subject, ...directions }] }, 'allow');
    return { selects: this.#asks(set, side, 'deny'), namespaces: null };
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
    other: MeshParty = nobodyIn('nobody-is-here', set.trustDomain),
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

/**
 * A meshed party that no rule names (its address is of TEST-NET-1, RFC 5737): the other end while one end is evaluated.
 */
function nobodyIn(namespace: string, trustDomain: string): MeshParty {
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount: 'nobody' });
  const workload = { namespace, name: 'nobody', serviceAccount: 'nobody', labels: {}, node: null };
  const party: Party = { ip: '192.0.2.1' as IpAddress, identity, workload };
  return { name: 'nobody', party, isMeshed: true };
}
