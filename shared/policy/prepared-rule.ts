import type { RuleRef } from './connection.js';
import type { ConnectionFacts } from './connection-facts.js';
import { matchesAnyPeer, preparePeer, type PreparedPeer } from './prepared-peer.js';
import type { CompiledRule, PeerMatch, PortRange } from './snapshot.js';

export type PreparedRule = {
  readonly rule: CompiledRule;
  readonly ref: RuleRef;
  readonly from: readonly PreparedPeer[];
  readonly to: readonly PreparedPeer[];
};

/** Peers that are written alike become one object: thousands of rules name the same few. */
export function prepareRules(rules: readonly CompiledRule[]): PreparedRule[] {
  const byText = new Map<string, PreparedPeer>();
  const prepare = (match: PeerMatch) => {
    const text = JSON.stringify(match);
    const known = byText.get(text);
    if (known !== undefined) return known;
    const peer = preparePeer(match);
    byText.set(text, peer);
    return peer;
  };
  return rules.map((rule) => ({
    rule,
    ref: Object.freeze({ kind: 'SegmentationRule', name: rule.name, tier: rule.tier } as const),
    from: rule.from.map(prepare),
    to: rule.to.map(prepare),
  }));
}

export function matchesRule(prepared: PreparedRule, facts: ConnectionFacts): boolean {
  return (
    matchesPorts(prepared.rule.ports, facts.port) &&
    matchesAnyPeer(prepared.to, facts.destination) &&
    matchesSource(prepared, facts)
  );
}

/** A rule that denies also holds against who the source seems to be ({@link ConnectionFacts}). */
export function matchesSource({ rule, from }: PreparedRule, { source, claimedSource }: ConnectionFacts): boolean {
  if (matchesAnyPeer(from, source)) return true;
  return rule.action === 'deny' && claimedSource !== null && matchesAnyPeer(from, claimedSource);
}

/** An empty list is every port. */
export function matchesPorts(ports: readonly PortRange[], port: number): boolean {
  if (ports.length === 0) return true;
  for (const [first, last] of ports) if (port >= first && port <= last) return true;
  return false;
}
