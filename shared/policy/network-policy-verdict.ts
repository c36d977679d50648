import type { RuleRef } from './connection.js';
import type { ConnectionFacts } from './connection-facts.js';
import type { NetworkIsolation } from './prepared/network-selection.js';

export type NetworkPolicyVerdict = {
  readonly verdict: 'allow' | 'deny';
  readonly direction: 'ingress' | 'egress';
  /** The policy that allows; for a deny, the first policy that isolates without an allowance. */
  readonly rule: RuleRef;
};

/**
 * The verdict of the NetworkPolicies, with Kubernetes' semantics. A workload that no policy selects for a direction
 * accepts everything in that direction. A selected workload accepts what any of its policies allows, and nothing else.
 * A connection must be allowed at both ends (Kubernetes, Network Policies, "The two sorts of pod isolation").
 *
 * Undefined leaves the decision to the next tier. That is the result when neither end is isolated, and also when only
 * the source is isolated and its policies allow the connection, because they say nothing about what the destination
 * accepts. An allowed ingress is final, as a tier is in Calico; so is an allowed egress to an address that is no
 * workload and has no policies of its own.
 */
export function networkPolicyVerdict(init: {
  readonly facts: ConnectionFacts;
  /** Policies of the source; null: not isolated. */
  readonly egress: NetworkIsolation | null;
  /** Policies of the destination; null: not isolated. */
  readonly ingress: NetworkIsolation | null;
}): NetworkPolicyVerdict | undefined {
  const { facts, egress, ingress } = init;
  const sent = directionVerdict(egress, 'egress', facts);
  if (sent?.verdict === 'deny') return sent;
  const received = directionVerdict(ingress, 'ingress', facts);
  if (received !== undefined) return received;
  return facts.destination.labels === null ? sent : undefined;
}

/** Undefined: no NetworkPolicy isolates the workload in this direction. */
export function directionVerdict(
  isolation: NetworkIsolation | null,
  direction: 'ingress' | 'egress',
  { source, destination, port }: ConnectionFacts,
): NetworkPolicyVerdict | undefined {
  const first = isolation?.policies[0];
  if (isolation === null || first === undefined) return undefined;
  const allowing = isolation.allowing(direction === 'egress' ? destination : source, port, destination.ports);
  if (allowing === undefined) return { verdict: 'deny', direction, rule: first.ref };
  return { verdict: 'allow', direction, rule: allowing.ref };
}
