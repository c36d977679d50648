/** A size and its cost. */
export type GrowthPoint = { readonly size: number; readonly cost: number };

/**
 * The exponent of growth between neighbouring sizes: 1 for linear, 0 for constant, 2 for quadratic cost. A knee shows as an
 * exponent above the previous ones. Null when a cost is not positive.
 */
export function growthExponents(points: readonly GrowthPoint[]): (number | null)[] {
  return points.slice(1).map((to, at) => {
    const from = points[at];
    if (from === undefined || from.cost <= 0 || to.cost <= 0 || from.size === to.size) return null;
    return Math.log(to.cost / from.cost) / Math.log(to.size / from.size);
  });
}
