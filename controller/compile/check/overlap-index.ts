import type { Cidr } from '../../../shared/address.js';
import { NetworkIndex } from '../../../shared/policy/prepared/network-index.js';
import type { Requirements } from './requirements.js';

/**
 * Finds the items that may match something that another item matches, among thousands: those that agree with it in the
 * dimension in which the fewest do. Items are known by their positions.
 */
export class OverlapIndex {
  /** Ascending. */
  readonly #positions: readonly number[];
  readonly #dimensions = new Map<string, Dimension>();

  constructor(init: { readonly items: Iterable<readonly [position: number, requirements: Requirements]> }) {
    const items = [...init.items].sort(([a], [b]) => a - b);
    this.#positions = items.map(([position]) => position);
    for (const [position, { values, networks }] of items) {
      for (const [name, listed] of values) this.#dimension(name, () => new ValueDimension()).add(position, listed);
      for (const [name, listed] of networks) this.#dimension(name, () => new NetworkDimension()).add(position, listed);
    }
  }

  /** Ascending, without duplicates. */
  candidates({ values, networks }: Requirements): readonly number[] {
    let best: { readonly dimension: Dimension; readonly listed: readonly (string | Cidr)[] } | null = null;
    let least = this.#positions.length;
    for (const [name, listed] of [...values, ...networks]) {
      const dimension = this.#dimensions.get(name);
      const count =
        dimension === undefined
          ? this.#positions.length
          : dimension.count(listed) + this.#positions.length - dimension.size;
      if (dimension === undefined || count >= least) continue;
      [best, least] = [{ dimension, listed }, count];
    }
    if (best === null) return this.#positions;
    const found = new Set(best.dimension.lacking(this.#positions));
    best.dimension.collect(best.listed, found);
    return [...found].sort((a, b) => a - b);
  }

  #dimension(name: string, make: () => Dimension): Dimension {
    let dimension = this.#dimensions.get(name);
    if (dimension === undefined) this.#dimensions.set(name, (dimension = make()));
    return dimension;
  }
}

/** What some of the items require in one respect. */
abstract class Dimension {
  readonly #having = new Set<number>();
  #lacking: readonly number[] | null = null;

  /** How many items require something here. */
  get size(): number {
    return this.#having.size;
  }

  add(position: number, listed: readonly (string | Cidr)[]): void {
    this.#having.add(position);
    for (const value of listed) this.insert(position, value);
  }

  /** Those that require nothing here agree with everything. */
  lacking(all: readonly number[]): readonly number[] {
    return (this.#lacking ??= all.filter((position) => !this.#having.has(position)));
  }

  protected abstract insert(position: number, value: string | Cidr): void;
  /** How many positions {@link collect} visits. */
  abstract count(listed: readonly (string | Cidr)[]): number;
  abstract collect(listed: readonly (string | Cidr)[], found: Set<number>): void;
}

class ValueDimension extends Dimension {
  readonly #byValue = new Map<string, number[]>();

  protected insert(position: number, value: string): void {
    const known = this.#byValue.get(value);
    if (known === undefined) this.#byValue.set(value, [position]);
    else known.push(position);
  }

  count(listed: readonly string[]): number {
    return listed.reduce((sum, value) => sum + (this.#byValue.get(value)?.length ?? 0), 0);
  }

  collect(listed: readonly string[], found: Set<number>): void {
    for (const value of listed) for (const position of this.#byValue.get(value) ?? []) found.add(position);
  }
}

type Placed = { readonly key: string; readonly prefixLength: number; readonly position: number };

class NetworkDimension extends Dimension {
  readonly #around = new NetworkIndex<Placed>();
  /** By the first address. */
  #sorted: Placed[] = [];
  #isSorted = true;

  protected insert(position: number, value: Cidr): void {
    const placed = { key: keyOf(value.bytes), prefixLength: value.prefixLength, position };
    this.#around.add(value, placed);
    this.#sorted.push(placed);
    this.#isSorted = false;
  }

  count(listed: readonly Cidr[]): number {
    let count = 0;
    for (const network of listed) {
      const [start, end] = this.#within(network);
      count += end - start;
      this.#forEachAround(network, () => count++);
    }
    return count;
  }

  collect(listed: readonly Cidr[], found: Set<number>): void {
    for (const network of listed) {
      const [start, end] = this.#within(network);
      for (let at = start; at < end; at++) found.add(this.#sorted[at]?.position ?? 0);
      this.#forEachAround(network, ({ position }) => found.add(position));
    }
  }

  #forEachAround({ bytes, prefixLength }: Cidr, visit: (placed: Placed) => void): void {
    this.#around.forEach(bytes, (placed) => {
      if (placed.prefixLength < prefixLength) visit(placed);
    });
  }

  /** Networks that begin in this one: those are within it, or it is within them and begins where they do. */
  #within(network: Cidr): readonly [start: number, end: number] {
    if (!this.#isSorted) this.#sorted.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    this.#isSorted = true;
    const last = network.bytes.map(
      (byte, index) => byte | (0xff >> Math.min(8, Math.max(0, network.prefixLength - index * 8))),
    );
    return [this.#firstFrom(keyOf(network.bytes)), this.#firstFrom(`${keyOf(last)}\uffff`)];
  }

  #firstFrom(key: string): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle]?.key ?? '') < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Sorts as addresses do, the families apart. */
function keyOf(bytes: readonly number[]): string {
  return `${bytes.length === 4 ? 'a' : 'b'}${String.fromCharCode(...bytes)}`;
}
