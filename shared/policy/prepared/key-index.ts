/**
 * A list whose items each require one of a few keys, or none in particular. Finds the items that a set of keys can
 * concern, in list order, so that the expensive test runs only on those.
 */
export class KeyIndex<T> {
  readonly #items: readonly T[];
  /** Positions in ascending order. */
  readonly #anywhere: number[] = [];
  readonly #byKey = new Map<string, number[]>();

  /** `keysOf`: an item concerns only those that have one of these keys; null: it may concern anything. */
  constructor(init: { readonly items: readonly T[]; readonly keysOf: (item: T) => readonly string[] | null }) {
    const { items, keysOf } = init;
    this.#items = items;
    for (const [position, item] of items.entries()) {
      const keys = keysOf(item);
      if (keys === null) this.#anywhere.push(position);
      for (const key of new Set(keys)) {
        const others = this.#byKey.get(key);
        if (others === undefined) this.#byKey.set(key, [position]);
        else others.push(position);
      }
    }
  }

  /** All items that one of the keys concerns and for which the test holds, in list order. */
  all(keys: readonly string[], holds: (item: T) => boolean): T[] {
    const positions = new Set(this.#anywhere);
    for (const key of keys) for (const position of this.#byKey.get(key) ?? []) positions.add(position);
    const found: T[] = [];
    for (const position of [...positions].sort((a, b) => a - b)) {
      const item = this.#items[position];
      if (item !== undefined && holds(item)) found.push(item);
    }
    return found;
  }

  /** The first such item. A null key is not known. */
  first(keys: readonly (string | null)[], holds: (item: T) => boolean): T | undefined {
    let best = this.#firstOf(this.#anywhere, this.#items.length, holds);
    for (const key of keys) {
      const positions = key === null ? undefined : this.#byKey.get(key);
      if (positions !== undefined) best = this.#firstOf(positions, best, holds);
    }
    return this.#items[best];
  }

  /** Returns `before` when no earlier item holds. */
  #firstOf(positions: readonly number[], before: number, holds: (item: T) => boolean): number {
    for (const position of positions) {
      if (position >= before) return before;
      const item = this.#items[position];
      if (item !== undefined && holds(item)) return position;
    }
    return before;
  }
}
