import type { CompiledSegment, RulePeer, Snapshot } from '../../../shared/policy/snapshot.js';

/**
 * The same rules with their peers in segments, two inside each other for each side of a rule, as the compiler writes large
 * ones.
 */
export function withSharedSegments(snapshot: Snapshot): Snapshot {
  const segments: CompiledSegment[] = [...(snapshot.segments ?? [])];
  const share = (peers: readonly RulePeer[]): readonly RulePeer[] => {
    const [first, ...others] = peers;
    if (first === undefined) return [];
    const [inner, outer] = [`inner${segments.length}`, `outer${segments.length}`];
    segments.push({ name: inner, members: others }, { name: outer, members: [{ memberOf: inner }, first] });
    const ways = [
      [{ memberOf: outer }],
      [{ memberOf: inner }, first],
      [{ memberOf: outer }, { memberOf: inner }, first],
    ];
    return ways[(segments.length / 2) % ways.length] ?? peers;
  };
  const rules = snapshot.rules.map((rule) => ({ ...rule, from: share(rule.from), to: share(rule.to) }));
  return { ...snapshot, segments, rules };
}
