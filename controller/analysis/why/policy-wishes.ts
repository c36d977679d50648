import type { Connection, PartyWorkload } from '../../../shared/policy/connection.js';
import { isPortName } from '../../../shared/policy/prepared/prepared-rule.js';
import type {
  AuthorizationSource,
  LabelRequirement,
  NetworkPolicyPeer,
  PeerMatch,
  RulePort,
  Snapshot,
} from '../../../shared/policy/snapshot.js';

/**
 * Peers and ports in the AuthorizationPolicies and NetworkPolicies for this connection; matching them might reverse the
 * decision.
 */
export type PolicyWishes = {
  readonly peers: readonly { readonly side: 'source' | 'destination'; readonly peers: readonly PeerMatch[] }[];
  readonly ports: readonly number[];
};

/**
 * Expressed as peers of SegmentationRules as far as possible. Extra entries do no harm: every candidate is verified
 * with the evaluator.
 */
export function wantedByPolicies(snapshot: Snapshot, { source, destination }: Connection): PolicyWishes {
  const { rootNamespace } = snapshot.mesh;
  const target = destination.workload;
  const peers: { side: 'source' | 'destination'; peers: PeerMatch[] }[] = [];
  const ports: number[] = [];
  for (const { namespace, rules, selector } of snapshot.authorizationPolicies) {
    if (target === null || (namespace !== target.namespace && namespace !== rootNamespace)) continue;
    // A policy that selects the destination by a label would not select it without that label.
    peers.push({ side: 'destination', peers: Object.keys(selector).length === 0 ? [] : [{ labels: selector }] });
    for (const { from, to } of rules) {
      peers.push({ side: 'source', peers: from.map(fromSource) });
      ports.push(...to.flatMap((operation) => operation.ports ?? []));
    }
  }
  for (const { namespace, ingress, egress } of snapshot.networkPolicies) {
    for (const [rules, home, side] of [
      [ingress, target, 'source'],
      [egress, source.workload, 'destination'],
    ] as const) {
      if (rules === null || home?.namespace !== namespace) continue;
      for (const rule of rules) {
        peers.push({ side, peers: rule.peers.map((peer) => fromNetworkPeer(peer, namespace)) });
        ports.push(...numbersOf(rule.ports, target));
      }
    }
  }
  for (const { ingress, egress } of snapshot.clusterPolicies ?? []) {
    for (const [rules, side] of [
      [ingress, 'source'],
      [egress, 'destination'],
    ] as const) {
      for (const rule of rules) {
        peers.push({ side, peers: rule.peers.map((peer) => fromNetworkPeer(peer, '')) });
        ports.push(...numbersOf(rule.ports, target));
      }
    }
  }
  return { peers, ports: [...new Set(ports)] };
}

/** The first port of each range, and what the names stand for. */
function numbersOf(ports: readonly RulePort[], target: PartyWorkload | null): number[] {
  return ports.flatMap((port) => (isPortName(port) ? (target?.ports?.[port] ?? []) : port[0]));
}

function fromSource({ principals = [], serviceAccounts = [], namespaces, ipBlocks }: AuthorizationSource): PeerMatch {
  const accounts = [...serviceAccounts, ...principals.flatMap(accountOf)];
  return {
    ...(accounts.length === 0 ? {} : { serviceAccounts: accounts }),
    ...(namespaces === undefined ? {} : { namespaces: namespaces.filter((name) => !name.includes('*')) }),
    ...(ipBlocks === undefined ? {} : { cidrs: ipBlocks }),
  };
}

/** `mesh/ns/billing/sa/api` without wildcards. */
function accountOf(principal: string): string[] {
  const match = /\/ns\/([^/*]+)\/sa\/([^/*]+)$/.exec(principal);
  return match === null ? [] : [`${match[1] ?? ''}/${match[2] ?? ''}`];
}

function fromNetworkPeer(peer: NetworkPolicyPeer, namespace: string): PeerMatch {
  if (peer.kind === 'block') return { cidrs: [peer.cidr] };
  const labels = labelsOf(peer.podSelector);
  const home = peer.namespaceSelector === null ? [namespace] : namesOf(peer.namespaceSelector);
  return {
    ...(home.length === 0 ? {} : { namespaces: home }),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
  };
}

function labelsOf(requirements: readonly LabelRequirement[]): Record<string, string> {
  const wanted = requirements.filter(({ operator }) => operator === 'In');
  return Object.fromEntries(wanted.map(({ key, values }) => [key, values[0] ?? '']));
}

/** Every namespace has its own name as this label (Kubernetes, "Well-Known Labels"). */
function namesOf(requirements: readonly LabelRequirement[]): readonly string[] {
  const named = requirements.find(({ key, operator }) => key === 'kubernetes.io/metadata.name' && operator === 'In');
  return named?.values ?? [];
}
