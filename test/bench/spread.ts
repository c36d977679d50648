/** Median, minimum and maximum of several measurements. */
export type Spread = { readonly median: number; readonly min: number; readonly max: number };

/** The median of an even number of values is the mean of the two in the middle. Throws RangeError without values. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[Math.floor(sorted.length / 2)]];
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (low === undefined || high === undefined || min === undefined || max === undefined) {
    throw new RangeError('nothing was measured');
  }
  return { median: (low + high) / 2, min, max };
}
