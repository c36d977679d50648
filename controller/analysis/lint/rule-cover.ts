import { tiers, type CompiledRule, type PortRange } from '../../../shared/policy/snapshot.js';
import { coversPeers, isByAddressOnly } from './peer-cover.js';

/**
 * Whether `earlier` always decides everything that `later` matches, so that `later` has no effect. Only certain cases
 * are found, not those that depend on the current workloads or on several rules together.
 */
export function shadows(earlier: CompiledRule, later: CompiledRule): boolean {
  return isBefore(earlier, later) && isAlwaysInForce(earlier) && covers(earlier, later);
}

/** Whether `outer` matches every connection that `inner` matches. */
export function covers(outer: CompiledRule, inner: CompiledRule): boolean {
  // A deny rule also matches the workload that a source only claims to be; a rule that does not deny cannot cover that
  // by identity.
  const isWeaker = inner.action === 'deny' && outer.action !== 'deny';
  if (isWeaker && !isByAddressOnly(outer.from)) return false;
  return (
    coversPorts(outer.ports, inner.ports) && coversPeers(outer.to, inner.to) && coversPeers(outer.from, inner.from)
  );
}

function isBefore(earlier: CompiledRule, later: CompiledRule): boolean {
  const step = tiers.indexOf(later.tier) - tiers.indexOf(earlier.tier);
  if (step !== 0) return step > 0 && earlier.action !== 'pass';
  // Rules of equal priority and different actions exclude each other, or the set would have been refused.
  return earlier.priority < later.priority || (earlier.priority === later.priority && earlier.action === later.action);
}

function isAlwaysInForce({ mode, rollout, validFromMs, expiresAtMs }: CompiledRule): boolean {
  return mode === 'enforce' && rollout >= 100 && validFromMs === null && expiresAtMs === null;
}

/** Ranges are sorted and not adjacent, as the compiler produces them. */
function coversPorts(outer: readonly PortRange[], inner: readonly PortRange[]): boolean {
  if (outer.length === 0) return true;
  const everyPort: readonly PortRange[] = [[1, 65_535]];
  return (inner.length === 0 ? everyPort : inner).every(([first, last]) =>
    outer.some((range) => range[0] <= first && last <= range[1]),
  );
}

/** A port that both match; undefined: none. */
export function commonPort(a: readonly PortRange[], b: readonly PortRange[]): number | undefined {
  const everyPort: readonly PortRange[] = [[1, 65_535]];
  for (const [firstA, lastA] of a.length === 0 ? everyPort : a) {
    for (const [firstB, lastB] of b.length === 0 ? everyPort : b) {
      const first = Math.max(firstA, firstB);
      if (first <= Math.min(lastA, lastB)) return first;
    }
  }
  return undefined;
}
