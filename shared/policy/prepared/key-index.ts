/**
 * A list of which each item asks for one of a few names, or for none in particular. Finds the items that a set of names
 * can concern, in the order of the list, so that a test that costs more is made of these alone.
 */
export class KeyIndex<T> {
  readonly #items: readonly T[];
  /** Positions, rising. */
  readonly #anywhere: number[] = [];
  readonly #byKey = new Map<string, number[]>();

  /** `keysOf`: an item concerns nobody who has none of these; null: it may concern everybody. */
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

  /** Everything that one of the keys concerns and for which the test holds, in the order of the list. */
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

  /** The first of them. A key that is null is not known. */
  first(keys: readonly (string | null)[], holds: (item: T) => boolean): T | undefined {
    let best = this.#firstOf(this.#anywhere, this.#items.length, holds);
    for (const key of keys) {
      const positions = key === null ? undefined : this.#byKey.get(key);
      if (positions !== undefined) best = this.#firstOf(positions, best, holds);
    }
    return this.#items[best];
  }

  /** `before` when none before it holds. */
  #firstOf(positions: readonly number[], before: number, holds: (item: T) => boolean): number {
    for (const position of positions) {
      if (position >= before) return before;
      const item = this.#items[position];
      if (item !== undefined && holds(item)) return position;
    }
    return before;
  }
}
