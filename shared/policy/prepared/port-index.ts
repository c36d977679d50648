import { BoundedCache } from './bounded-cache.js';
import { emptyBits, setBit, type RuleBits } from './rule-bits.js';
import { isPortName, matchesPorts } from './prepared-rule.js';
import type { RulePort } from '../snapshot.js';

/** Limit on cached sets; each takes one bit per rule. */
const maxKept = 2048;

/**
 * The rules that may apply to a port: a rule with named ports may apply to each, because the destination decides. Ports with no range border between them share one set.
 */
export class PortIndex {
  readonly #ports: readonly (readonly RulePort[])[];
  /** First ports of ranges and first ports after ranges, sorted. */
  readonly #borders: readonly number[];
  readonly #byInterval = new BoundedCache<number, RuleBits>({ maxEntries: maxKept });

  /** `ports`: for each rule; an empty list matches every port. */
  constructor({ ports }: { readonly ports: readonly (readonly RulePort[])[] }) {
    this.#ports = ports;
    const borders = ports.flatMap((entries) =>
      entries.flatMap((entry) => (isPortName(entry) ? [] : [entry[0], entry[1] + 1])),
    );
    this.#borders = [...new Set(borders)].sort((a, b) => a - b);
  }

  matching(port: number): RuleBits {
    const interval = this.#intervalOf(port);
    const known = this.#byInterval.get(interval);
    if (known !== undefined) return known;
    const bits = emptyBits(this.#ports.length);
    for (const [position, entries] of this.#ports.entries()) {
      if (matchesPorts(entries, port, null) || entries.some(isPortName)) setBit(bits, position);
    }
    this.#byInterval.set(interval, bits);
    return bits;
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
