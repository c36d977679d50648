import type { RuleRef } from '../connection.js';
import type { ConnectionFacts } from '../connection-facts.js';
import { matchesAnyPeer, type PreparedPeer } from './prepared-peer.js';
import type { CompiledRule, PortRange } from '../snapshot.js';

export type PreparedRule = {
  readonly rule: CompiledRule;
  readonly ref: RuleRef;
  readonly from: readonly PreparedPeer[];
  readonly to: readonly PreparedPeer[];
};

export function matchesRule(prepared: PreparedRule, facts: ConnectionFacts): boolean {
  return (
    matchesPorts(prepared.rule.ports, facts.port) &&
    matchesAnyPeer(prepared.to, facts.destination) &&
    matchesSource(prepared, facts)
  );
}

/** A deny rule also applies to the workload that the source only claims to be (see {@link ConnectionFacts}). */
export function matchesSource({ rule, from }: PreparedRule, { source, claimedSource }: ConnectionFacts): boolean {
  if (matchesAnyPeer(from, source)) return true;
  return rule.action === 'deny' && claimedSource !== null && matchesAnyPeer(from, claimedSource);
}

/** An empty list matches every port. */
export function matchesPorts(ports: readonly PortRange[], port: number): boolean {
  if (ports.length === 0) return true;
  for (const [first, last] of ports) if (port >= first && port <= last) return true;
  return false;
}
