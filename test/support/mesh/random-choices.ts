/** Reproducible choices: the same seed makes the same ones in the same order. */
export class RandomChoices {
  readonly seed: number;
  #state: number;

  /** `seed`: a whole number from 0 to 2^32. */
  constructor(init: { readonly seed: number }) {
    this.seed = init.seed;
    this.#state = init.seed;
  }

  /** From 0 to before 1 (Mulberry32, public domain, Tommy Ettinger). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    const state = this.#state;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  isLikely(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(values: readonly [T, ...T[]]): T {
    return values[Math.floor(this.next() * values.length)] ?? values[0];
  }

  /** One to `most` different ones. */
  some<T>(values: readonly [T, ...T[]], most: number): T[] {
    return [...new Set(Array.from({ length: 1 + Math.floor(this.next() * most) }, () => this.pick(values)))];
  }

  shuffled<T>(values: readonly T[]): T[] {
    return values
      .map((value) => ({ value, at: this.next() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ value }) => value);
  }
}
