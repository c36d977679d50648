/** One size of what grows and what it cost. */
export type GrowthPoint = { readonly size: number; readonly cost: number };

/**
 * The exponent of growth between neighbouring sizes: 1 where cost doubles with size, 0 where it stays, 2 where it is
 * quadratic. A bend shows as one exponent above the ones before. Null where a cost is not positive.
 */
export function growthExponents(points: readonly GrowthPoint[]): (number | null)[] {
  return points.slice(1).map((to, at) => {
    const from = points[at];
    if (from === undefined || from.cost <= 0 || to.cost <= 0 || from.size === to.size) return null;
    return Math.log(to.cost / from.cost) / Math.log(to.size / from.size);
  });
}
