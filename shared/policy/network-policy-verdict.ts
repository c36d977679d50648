import type { RuleRef } from './connection.js';
import type { ConnectionFacts, PartyFacts } from './connection-facts.js';
import type { NetworkIsolation } from './prepared/network-selection.js';

export type NetworkPolicyVerdict = {
  readonly verdict: 'allow' | 'deny';
  readonly direction: 'ingress' | 'egress';
  /** The policy that allows, or the first of those that isolate without one that allows. */
  readonly rule: RuleRef;
};

/**
 * What NetworkPolicies come to, with Kubernetes' semantics: a workload that no policy selects for a direction takes
 * everything in it; one that is selected takes what any of its policies allows, and nothing else; and a connection needs
 * both its ends (Kubernetes, Network Policies, "The two sorts of pod isolation").
 *
 * Undefined leaves the decision to the next tier: when neither end is isolated, and also when only the source is and
 * its policies allow the connection, because they say nothing of what the destination's side wants. An ingress that is
 * allowed is final, as a tier is in Calico; so is an egress to what is no workload, which has no side of its own.
 */
export function networkPolicyVerdict(init: {
  readonly facts: ConnectionFacts;
  /** Of the source; null: not isolated. */
  readonly egress: NetworkIsolation | null;
  /** Of the destination. */
  readonly ingress: NetworkIsolation | null;
}): NetworkPolicyVerdict | undefined {
  const { facts, egress, ingress } = init;
  const { source, destination, port } = facts;
  const sent = directionVerdict(egress, 'egress', destination, port);
  if (sent?.verdict === 'deny') return sent;
  const received = directionVerdict(ingress, 'ingress', source, port);
  if (received !== undefined) return received;
  return destination.labels === null ? sent : undefined;
}

function directionVerdict(
  isolation: NetworkIsolation | null,
  direction: 'ingress' | 'egress',
  peer: PartyFacts,
  port: number,
): NetworkPolicyVerdict | undefined {
  const first = isolation?.policies[0];
  if (isolation === null || first === undefined) return undefined;
  const allowing = isolation.allowing(peer, port);
  if (allowing === undefined) return { verdict: 'deny', direction, rule: first.ref };
  return { verdict: 'allow', direction, rule: allowing.ref };
}
