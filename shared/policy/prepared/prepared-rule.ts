import type { PortNames, RuleRef } from '../connection.js';
import type { ConnectionFacts } from '../connection-facts.js';
import { matchesSide, type PreparedSide } from './prepared-side.js';
import type { CompiledRule, PortRange, RulePort } from '../snapshot.js';

export type PreparedRule = {
  readonly rule: CompiledRule;
  readonly ref: RuleRef;
  readonly from: PreparedSide;
  readonly to: PreparedSide;
};

export function matchesRule(prepared: PreparedRule, facts: ConnectionFacts): boolean {
  return (
    matchesPorts(prepared.rule.ports, facts.port, facts.destination.ports) &&
    matchesSide(prepared.to, facts.destination) &&
    matchesSource(prepared, facts)
  );
}

/** A deny rule also applies to the workload that the source only claims to be (see {@link ConnectionFacts}). */
export function matchesSource({ rule, from }: PreparedRule, { source, claimedSource }: ConnectionFacts): boolean {
  if (matchesSide(from, source)) return true;
  return rule.action === 'deny' && claimedSource !== null && matchesSide(from, claimedSource);
}

/** An empty list matches every port. `names`: of the destination; without them a name matches nothing. */
export function matchesPorts(ports: readonly RulePort[], port: number, names: PortNames | null): boolean {
  if (ports.length === 0) return true;
  for (const entry of ports) {
    if (typeof entry === 'string') {
      // A port may be called "constructor".
      if (names !== null && Object.hasOwn(names, entry) && names[entry] === port) return true;
    } else if (port >= entry[0] && port <= entry[1]) return true;
  }
  return false;
}

/** Without the names. */
export function rangesOf(ports: readonly RulePort[]): PortRange[] {
  return ports.filter((port) => typeof port !== 'string');
}

export function isPortName(port: RulePort): port is string {
  return typeof port === 'string';
}
