import type { Segment } from '../resources/kinds/segment.js';

/** `member`: the index of the member that closes the circle; `names`: from the segment back to itself. */
export type SegmentCircle = {
  readonly segment: Segment;
  readonly member: number;
  readonly names: readonly string[];
};

/**
 * Segments in an order in which each comes after the segments that it names, except where they form a circle. The order
 * of documents does not matter, and a chain may be as long as the input: nothing recurses.
 */
export function segmentOrder(segments: readonly Segment[]): {
  readonly insideOut: readonly Segment[];
  readonly circles: readonly SegmentCircle[];
} {
  const byName = new Map(segments.map((segment) => [segment.metadata.name, segment]));
  const insideOut: Segment[] = [];
  const circles: SegmentCircle[] = [];
  /** The position in `open`, or null for a segment that was visited. */
  const visited = new Map<string, number | null>();
  /** The segments that are being visited, outermost first, and the next member of each. */
  const open: { readonly segment: Segment; next: number }[] = [];
  const enter = (segment: Segment): void => {
    visited.set(segment.metadata.name, open.length);
    open.push({ segment, next: 0 });
  };
  const leave = (segment: Segment): void => {
    visited.set(segment.metadata.name, null);
    insideOut.push(segment);
    open.pop();
  };
  for (const name of [...byName.keys()].sort()) {
    const first = byName.get(name);
    if (first !== undefined && !visited.has(name)) enter(first);
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const { segment } = top;
      const member = top.next++;
      if (member >= segment.spec.members.length) {
        leave(segment);
        continue;
      }
      const inner = byName.get(segment.spec.members[member]?.segment ?? '');
      if (inner === undefined) continue;
      const start = visited.get(inner.metadata.name);
      if (start === undefined) enter(inner);
      else if (start !== null)
        circles.push({ segment, member, names: namesOf([...open.slice(start), { segment: inner }]) });
    }
  }
  return { insideOut, circles };
}

/** Longer circles are cut in the middle when shown to a person. */
const maxNames = 8;

function namesOf(circle: readonly { readonly segment: Segment }[]): string[] {
  const names = circle.map(({ segment }) => segment.metadata.name);
  if (names.length <= maxNames) return names;
  return [...names.slice(0, maxNames - 2), '…', ...names.slice(-2)];
}
