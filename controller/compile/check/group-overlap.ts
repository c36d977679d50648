import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { PeerGroups } from '../segment-members.js';
import { OverlapIndex } from './overlap-index.js';
import { overlapOfPeers } from './peer-overlap.js';
import { requirementsOf } from './requirements.js';

/** Two alternatives that some party can match both, and that party in words. */
export type Overlapping = { readonly left: PeerMatch; readonly right: PeerMatch; readonly text: string };

const everybody: readonly PeerMatch[] = [{}];
const indexes = new WeakMap<readonly PeerMatch[], OverlapIndex>();
/** Groups without a party in common. Many rules refer to the same two segments. */
const disjoint = new WeakMap<readonly PeerMatch[], WeakSet<readonly PeerMatch[]>>();
/** Below this number of pairs, comparing all is faster than an index. */
const fewPairs = 64;

/** The alternatives of `a` and `b` that overlap when no address has a name, those of `a` in order. */
export function* overlapping(a: PeerGroups, b: PeerGroups): Generator<Overlapping> {
  for (const left of a.length === 0 ? [everybody] : a) {
    for (const right of b.length === 0 ? [everybody] : b) yield* overlappingIn(left, right);
  }
}

/** The first overlap; without a group, every party matches. */
export function overlapOfGroups(a: PeerGroups, b: PeerGroups): string | undefined {
  if (a.length === 0 && b.length === 0) return 'anybody';
  for (const { text } of overlapping(a, b)) return text;
  return undefined;
}

function* overlappingIn(left: readonly PeerMatch[], right: readonly PeerMatch[]): Generator<Overlapping> {
  if (disjoint.get(left)?.has(right) === true) return;
  let isDisjoint = true;
  for (const one of left) {
    for (const other of mayOverlap(one, left, right)) {
      const text = overlapOfPeers(one, other);
      if (text === undefined) continue;
      isDisjoint = false;
      yield { left: one, right: other, text };
    }
  }
  if (!isDisjoint || left.length * right.length <= fewPairs) return;
  const known = disjoint.get(left);
  if (known === undefined) disjoint.set(left, new WeakSet([right]));
  else known.add(right);
}

/** The alternatives of a group that may overlap with one of another group. */
export function* mayOverlap(
  one: PeerMatch,
  of: readonly PeerMatch[],
  group: readonly PeerMatch[],
): Generator<PeerMatch> {
  if (of.length * group.length <= fewPairs) {
    yield* group;
    return;
  }
  let index = indexes.get(group);
  if (index === undefined) {
    const items = group.map((match, position) => [position, requirementsOf(match)] as const);
    indexes.set(group, (index = new OverlapIndex({ items })));
  }
  for (const position of index.candidates(requirementsOf(one))) yield group[position] ?? {};
}
