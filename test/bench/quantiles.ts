/** Nearest-rank quantiles of values, in their unit. Sorts the values in place. */
export class Quantiles {
  readonly #sorted: Float64Array;

  /** Throws RangeError when there is no value. */
  constructor({ values }: { readonly values: Float64Array }) {
    if (values.length === 0) throw new RangeError('nothing was measured');
    this.#sorted = values.sort();
  }

  /** `share` from 0 to 1. */
  at(share: number): number {
    const rank = Math.max(1, Math.ceil(share * this.#sorted.length));
    return this.#sorted[rank - 1] ?? Number.NaN;
  }
}
