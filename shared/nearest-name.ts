/** A hint for an unknown name: `did you mean NAME?` when one is near, else `otherwise`. */
export function didYouMean(written: string, candidates: Iterable<string>, otherwise: string): string {
  const nearest = nearestName(written, candidates);
  return nearest === undefined ? otherwise : `did you mean ${nearest}?`;
}

/**
 * The candidate closest to what was written, for "did you mean …?"; undefined if none is close (more than two fifths of
 * the letters of the shorter one differ). Two letters that changed places are one mistake (optimal
 * string alignment), and ignores case.
 */
export function nearestName(written: string, candidates: Iterable<string>): string | undefined {
  const wanted = written.toLowerCase();
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const limit = Math.min(bestDistance, Math.ceil(Math.min(wanted.length, candidate.length) * 0.4) + 1);
    const distance = editDistance(wanted, candidate.toLowerCase(), limit);
    if (distance < limit) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Returns `limit` if the distance is not below it. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let before: readonly number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    let least = row;
    for (let column = 1; column <= b.length; column++) {
      const substitution = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      let distance = Math.min(substitution, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1);
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (isSwapped) distance = Math.min(distance, (before[column - 2] ?? 0) + 1);
      current.push(distance);
      least = Math.min(least, distance);
    }
    // A swap reaches back over one row.
    if (least >= limit && Math.min(...previous) >= limit) return limit;
    before = previous;
    previous = current;
  }
  return Math.min(limit, previous[b.length] ?? 0);
}
