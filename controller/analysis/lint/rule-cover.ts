import { tiers, type CompiledRule, type PortRange } from '../../../shared/policy/snapshot.js';
import { coversPeers, isByAddressOnly } from './peer-cover.js';

/**
 * Whether `earlier` decides everything that `later` matches, always, so that `later` could as well be left out.
 * Certain: a cover that depends on the workloads there are now, or on several rules together, is not found.
 */
export function shadows(earlier: CompiledRule, later: CompiledRule): boolean {
  return isBefore(earlier, later) && isAlwaysInForce(earlier) && covers(earlier, later);
}

/** Whether `outer` matches every connection that `inner` matches. */
export function covers(outer: CompiledRule, inner: CompiledRule): boolean {
  // A rule that denies also matches whom a source only seems to be, so one that does not cannot cover it by identity.
  const isWeaker = inner.action === 'deny' && outer.action !== 'deny';
  if (isWeaker && !isByAddressOnly(outer.from)) return false;
  return (
    coversPorts(outer.ports, inner.ports) && coversPeers(outer.to, inner.to) && coversPeers(outer.from, inner.from)
  );
}

function isBefore(earlier: CompiledRule, later: CompiledRule): boolean {
  const step = tiers.indexOf(later.tier) - tiers.indexOf(earlier.tier);
  if (step !== 0) return step > 0 && earlier.action !== 'pass';
  // Rules of one priority with different actions exclude each other, or the set would have been refused.
  return earlier.priority < later.priority || (earlier.priority === later.priority && earlier.action === later.action);
}

function isAlwaysInForce({ mode, rollout, validFromMs, expiresAtMs }: CompiledRule): boolean {
  return mode === 'enforce' && rollout >= 100 && validFromMs === null && expiresAtMs === null;
}

/** Ranges are sorted and do not touch each other, as the compiler leaves them. */
function coversPorts(outer: readonly PortRange[], inner: readonly PortRange[]): boolean {
  if (outer.length === 0) return true;
  const everyPort: readonly PortRange[] = [[1, 65_535]];
  return (inner.length === 0 ? everyPort : inner).every(([first, last]) =>
    outer.some((range) => range[0] <= first && last <= range[1]),
  );
}

/** A port that both match, or undefined. */
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
