import type { PortNames } from '../connection.js';
import { KeyIndex } from './key-index.js';
import { PortIndex } from './port-index.js';
import { matchesPorts } from './prepared-rule.js';
import { emptyBits, setBit, type RuleBits } from './rule-bits.js';
import type { RulePort } from '../snapshot.js';

/** Up to this number of tests of parties and ports, making each is faster than remembering answers. */
const few = 32;
/** Up to this number, an index costs more than it saves. Most workloads have no more. */
const fewest = 8;

/** What an {@link OrderedTests} is asked about. */
export type Asked<P> = {
  readonly party: P;
  /** An object that stays the same as long as the party does: answers are kept with it. */
  readonly view: object;
  /** Keys of the party; see {@link OrderedTests}. Null: not known. */
  readonly keys: readonly (string | null)[];
  readonly port: number;
  /** The named ports of the destination. */
  readonly names: PortNames | null;
};

type Init<T, P> = {
  readonly items: readonly T[];
  /** An item concerns only parties with one of these keys; null: it may concern any. */
  readonly keysOf: (item: T) => readonly string[] | null;
  readonly matches: (item: T, party: P) => boolean;
  /** An empty list is every port. */
  readonly portsOf: (item: T) => readonly RulePort[];
  /** How many tests of a party an item makes, at most. */
  readonly alternativesOf: (item: T) => number;
};

/**
 * Items in order, each with a test of one party and of the port. A party is asked once by all items, and the answer is kept
 * as long as its view; so the time of a decision does not depend on what the items are like.
 */
export class OrderedTests<T, P> {
  readonly items: readonly T[];
  readonly #init: Init<T, P>;
  /** Null: there are very few items. */
  readonly #index: KeyIndex<number> | null;
  /** Null: there are few items. */
  readonly #ports: PortIndex | null;
  readonly #known = new WeakMap<object, RuleBits>();

  constructor(init: Init<T, P>) {
    const { items, keysOf, portsOf, alternativesOf } = init;
    const tests = items.reduce((sum, item) => sum + alternativesOf(item) + portsOf(item).length, items.length);
    this.items = items;
    this.#init = init;
    const positions = [...items.keys()];
    this.#index =
      tests <= fewest ? null : new KeyIndex({ items: positions, keysOf: (position) => keysOf(items[position] as T) });
    this.#ports = tests <= few ? null : new PortIndex({ ports: items.map(portsOf) });
  }

  /** The first item that matches and for which `holds` is true. */
  first(asked: Asked<P>, holds: ((item: T) => boolean) | null = null): T | undefined {
    const { party, port, names } = asked;
    const { items } = this;
    if (this.#ports === null) {
      const { matches, portsOf } = this.#init;
      const isMet = (item: T): boolean =>
        matchesPorts(portsOf(item), port, names) && matches(item, party) && holds?.(item) !== false;
      if (this.#index === null) return items.find(isMet);
      const position = this.#index.first(asked.keys, (at) => isMet(items[at] as T));
      return position === undefined ? undefined : items[position];
    }
    const [ofParty, ofPort] = [this.#ofParty(asked), this.#ports.matching(port, names)];
    for (let word = 0; word < ofParty.length; word++) {
      let common = (ofParty[word] ?? 0) & (ofPort[word] ?? 0);
      for (; common !== 0; common &= common - 1) {
        const item = items[(word << 5) + 31 - Math.clz32(common & -common)] as T;
        if (holds?.(item) !== false) return item;
      }
    }
    return undefined;
  }

  #ofParty({ party, view, keys }: Asked<P>): RuleBits {
    let bits = this.#known.get(view);
    if (bits === undefined) {
      bits = emptyBits(this.items.length);
      const known = keys.filter((key) => key !== null);
      for (const at of this.#index?.all(known, (position) => this.#init.matches(this.items[position] as T, party)) ??
        []) {
        setBit(bits, at);
      }
      this.#known.set(view, bits);
    }
    return bits;
  }
}
