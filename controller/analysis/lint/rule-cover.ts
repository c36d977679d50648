import { isPortName, rangesOf } from '../../../shared/policy/prepared/prepared-rule.js';
import type { OpenRule } from '../../compile/segment-members.js';
import { tiers, type PortRange, type RulePort } from '../../../shared/policy/snapshot.js';
import { coversPeers, isByAddressOnly } from './peer-cover.js';

/**
 * Whether `earlier` always decides everything that `later` matches, so that `later` has no effect. Only certain cases
 * are found, not those that depend on the current workloads or on several rules together.
 */
export function shadows(earlier: OpenRule, later: OpenRule): boolean {
  return isBefore(earlier, later) && isAlwaysInForce(earlier) && covers(earlier, later);
}

/** Whether `outer` matches every connection that `inner` matches. */
export function covers(outer: OpenRule, inner: OpenRule): boolean {
  // A deny rule also matches the workload that a source only claims to be; a rule that does not deny cannot cover that
  // by identity.
  const isWeaker = inner.action === 'deny' && outer.action !== 'deny';
  if (isWeaker && !isByAddressOnly(outer.from)) return false;
  return (
    coversPorts(outer.ports, inner.ports) && coversPeers(outer.to, inner.to) && coversPeers(outer.from, inner.from)
  );
}

function isBefore(earlier: OpenRule, later: OpenRule): boolean {
  const step = tiers.indexOf(later.tier) - tiers.indexOf(earlier.tier);
  if (step !== 0) return step > 0 && earlier.action !== 'pass';
  // Rules of equal priority and different actions exclude each other, or the set would have been refused.
  return earlier.priority < later.priority || (earlier.priority === later.priority && earlier.action === later.action);
}

function isAlwaysInForce({ mode, rollout, validFromMs, expiresAtMs }: OpenRule): boolean {
  return mode === 'enforce' && rollout >= 100 && validFromMs === null && expiresAtMs === null;
}

/** Ranges are sorted and not adjacent, as the compiler produces them. */
function coversPorts(outer: readonly RulePort[], inner: readonly RulePort[]): boolean {
  if (outer.length === 0) return true;
  const ranges = rangesOf(outer);
  const names = new Set(outer.filter(isPortName));
  const everyPort: readonly RulePort[] = [[1, 65_535]];
  return (inner.length === 0 ? everyPort : inner).every((port) => {
    // A name is any port, so only the same name or all ports certainly cover it.
    if (isPortName(port) && names.has(port)) return true;
    const [first, last] = isPortName(port) ? [1, 65_535] : port;
    const candidate = lastFrom(ranges, first);
    return candidate !== undefined && last <= candidate[1];
  });
}

/** The last range that begins at the port or before. */
function lastFrom(ranges: readonly PortRange[], port: number): PortRange | undefined {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.[0] ?? 0) <= port) low = middle + 1;
    else high = middle;
  }
  return ranges[low - 1];
}
