import type { PortNames } from '../connection.js';
import { BoundedCache } from './bounded-cache.js';
import { emptyBits, setBit, type RuleBits } from './rule-bits.js';
import { isPortName } from './prepared-rule.js';
import type { RulePort } from '../snapshot.js';

/** Limit on cached sets; each takes one bit per rule. */
const maxKept = 2048;

type Range = { readonly first: number; readonly last: number; readonly positions: number[] };

/** The rules that apply to a port. Ports with no range border between them share one set. */
export class PortIndex {
  readonly #everyPort: RuleBits;
  readonly #single = new Map<number, number[]>();
  /** Of more than one port. */
  readonly #ranges: readonly Range[];
  readonly #named = new Map<string, number[]>();
  /** First ports of ranges and first ports after ranges, sorted. */
  readonly #borders: readonly number[];
  readonly #byInterval = new BoundedCache<number, RuleBits>({ maxEntries: maxKept });
  readonly #byName = new BoundedCache<string, RuleBits>({ maxEntries: maxKept });
  readonly #namesOf = new WeakMap<PortNames, ReadonlyMap<number, readonly string[]>>();

  /** `ports`: for each rule; an empty list matches every port. */
  constructor({ ports }: { readonly ports: readonly (readonly RulePort[])[] }) {
    const borders = new Set<number>();
    const ranges = new Map<string, Range>();
    this.#everyPort = emptyBits(ports.length);
    for (const [position, entries] of ports.entries()) {
      if (entries.length === 0) setBit(this.#everyPort, position);
      for (const entry of entries) {
        if (isPortName(entry)) {
          addTo(this.#named, entry, position);
          continue;
        }
        const [first, last] = entry;
        borders.add(first).add(last + 1);
        if (first === last) addTo(this.#single, first, position);
        else {
          const key = `${first}-${last}`;
          const known = ranges.get(key);
          if (known === undefined) ranges.set(key, { first, last, positions: [position] });
          else known.positions.push(position);
        }
      }
    }
    this.#ranges = [...ranges.values()];
    this.#borders = [...borders].sort((a, b) => a - b);
  }

  /** `names`: the named ports of the destination; without them a name matches nothing. */
  matching(port: number, names: PortNames | null = null): RuleBits {
    const interval = this.#intervalOf(port);
    let bits = this.#byInterval.get(interval);
    if (bits === undefined) this.#byInterval.set(interval, (bits = this.#ofNumber(port)));
    if (names === null || this.#named.size === 0) return bits;
    const called = this.#namesAt(names, port);
    return called.length === 0 ? bits : this.#withNames(bits, interval, called);
  }

  #ofNumber(port: number): RuleBits {
    const bits = this.#everyPort.slice();
    for (const position of this.#single.get(port) ?? []) setBit(bits, position);
    for (const { first, last, positions } of this.#ranges) {
      if (port >= first && port <= last) for (const position of positions) setBit(bits, position);
    }
    return bits;
  }

  #withNames(bits: RuleBits, interval: number, names: readonly string[]): RuleBits {
    const key = `${interval} ${names.join(' ')}`;
    let named = this.#byName.get(key);
    if (named === undefined) {
      named = bits.slice();
      for (const name of names) for (const position of this.#named.get(name) ?? []) setBit(named, position);
      this.#byName.set(key, named);
    }
    return named;
  }

  /** The names that the destination gives to the port, of those that rules use. */
  #namesAt(names: PortNames, port: number): readonly string[] {
    let byPort = this.#namesOf.get(names);
    if (byPort === undefined) {
      const found = new Map<number, string[]>();
      for (const [name, number] of Object.entries(names)) if (this.#named.has(name)) addTo(found, number, name);
      this.#namesOf.set(names, (byPort = found));
    }
    return byPort.get(port) ?? noNames;
  }

  /** The number of borders at or below the port. */
  #intervalOf(port: number): number {
    let [low, high] = [0, this.#borders.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#borders[middle] ?? 0) <= port) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const noNames: readonly string[] = [];

function addTo<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const known = lists.get(key);
  if (known === undefined) lists.set(key, [value]);
  else known.push(value);
}
