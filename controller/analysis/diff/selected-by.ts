import { segmentMembersOf } from '../../compile/segment-members.js';
import { isAbout } from '../../resources/match/peer-fields.js';
import type { AuthorizationSource, NetworkPolicyPeer, RulePeer, Snapshot } from '../../../shared/policy/snapshot.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import { Selectors, type Selector, type Side } from '../pairs/selectors.js';

type Question = { readonly resource: string; readonly asked: readonly (Selector | null)[] };

/**
 * Tells which documents of one set of rules apply to a workload because of what it is: its name,
 * account, labels, namespace or node. Those that only name its addresses are left out.
 */
export class SelectedBy {
  readonly #snapshot: Snapshot;
  readonly #selectors: Selectors;
  #questions: readonly Question[] | null = null;

  constructor({ snapshot }: { readonly snapshot: Snapshot }) {
    this.#snapshot = snapshot;
    // What selects has no time.
    this.#selectors = new Selectors({ snapshot, clock: { nowMs: () => 0 } });
  }

  /** Those that apply to it: `Kind/name` or `Kind/namespace/name`, sorted. */
  documentsOf(workload: WorkloadEntry): string[] {
    const [ip] = workload.addresses;
    if (ip === undefined) return [];
    const end = workloadParty(workload, ip);
    this.#questions ??= [...this.#ask()];
    const found = this.#questions.filter(({ asked }) => asked.some((selector) => isSelected(selector, end)));
    return found.map(({ resource }) => resource).sort();
  }

  /** All questions before the first answer: they are put to the evaluator together. */
  *#ask(): Generator<Question> {
    const { rules, authorizationPolicies, networkPolicies, clusterPolicies = [] } = this.#snapshot;
    for (const { name, action, from, to } of rules) {
      const asked = [this.#peers('source', from, action === 'deny'), this.#peers('destination', to, false)];
      yield { resource: `SegmentationRule/${name}`, asked };
    }
    for (const policy of authorizationPolicies) {
      const sources = policy.rules.map(({ from }) => from.filter(isAboutWorkloads));
      const asked = sources.map((from) => (from.length === 0 ? null : this.#selectors.authorizationSource(from)));
      const resource = `AuthorizationPolicy/${policy.namespace}/${policy.name}`;
      yield { resource, asked: [this.#selectors.authorizationTarget(policy), ...asked] };
    }
    for (const policy of networkPolicies) {
      const { namespace, name, ingress, egress } = policy;
      const asked = [
        this.#selectors.networkTarget('destination', policy),
        ...(ingress ?? []).map(({ peers }) => this.#pods('source', namespace, peers)),
        ...(egress ?? []).map(({ peers }) => this.#pods('destination', namespace, peers)),
      ];
      yield { resource: `NetworkPolicy/${namespace}/${name}`, asked };
    }
    for (const { kind, name, subject, ingress, egress } of clusterPolicies) {
      const asked = [
        this.#selectors.clusterSubject('destination', subject),
        ...ingress.map(({ peers }) => this.#pods('source', '', peers)),
        ...egress.map(({ peers }) => this.#pods('destination', '', peers)),
      ];
      yield { resource: `${kind}/${name}`, asked };
    }
  }

  #peers(side: Side, peers: readonly RulePeer[], isDeny: boolean): Selector | null {
    const about = [...segmentMembersOf(this.#snapshot).matchesOf(peers)].filter((match) =>
      isAbout(match, 'workload', 'namespace'),
    );
    return about.length === 0 ? null : this.#selectors.peers(side, about, isDeny);
  }

  #pods(side: Side, namespace: string, peers: readonly NetworkPolicyPeer[]): Selector | null {
    const pods = peers.filter(({ kind }) => kind === 'pods');
    return pods.length === 0 ? null : this.#selectors.networkPeers(side, namespace, pods);
  }
}

/** What selected one of these workloads by labels of their namespace that it loses. */
export function lostWithNamespace(
  snapshot: Snapshot,
  namespace: string,
  workloads: Iterable<WorkloadEntry>,
): ReadonlySet<string> {
  const { [namespace]: _, ...namespaces } = snapshot.namespaces;
  const [before, after] = [new SelectedBy({ snapshot }), new SelectedBy({ snapshot: { ...snapshot, namespaces } })];
  const lost = new Set<string>();
  for (const workload of workloads) {
    const still = new Set(after.documentsOf(workload));
    for (const resource of before.documentsOf(workload)) if (!still.has(resource)) lost.add(resource);
  }
  return lost;
}

function isSelected(selector: Selector | null, end: MeshParty): boolean {
  if (selector === null) return false;
  const { namespaces } = selector;
  if (namespaces !== null && !namespaces.has(end.party.workload?.namespace ?? '')) return false;
  return selector.selects(end);
}

function isAboutWorkloads(source: AuthorizationSource): boolean {
  return Object.keys(source).some((field) => !/ipBlocks$/i.test(field));
}
