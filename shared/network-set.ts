import { cidrContains, type Cidr } from './address.js';

/** The addresses of many networks. A look-up takes as many steps as the number of networks has binary digits. */
export class NetworkSet {
  /** Sorted, and none within another. */
  readonly #v4: readonly Cidr[];
  readonly #v6: readonly Cidr[];

  constructor({ networks }: { readonly networks: readonly Cidr[] }) {
    this.#v4 = widest(networks.filter(({ bytes }) => bytes.length === 4));
    this.#v6 = widest(networks.filter(({ bytes }) => bytes.length !== 4));
  }

  /** The widest networks, by address, IPv4 first. Together they have all addresses. */
  get widest(): readonly Cidr[] {
    return this.#v4.length === 0 ? this.#v6 : [...this.#v4, ...this.#v6];
  }

  /** Whether one of the networks has the address (network byte order). */
  has(ip: readonly number[]): boolean {
    return this.#around(ip) !== undefined;
  }

  /** Whether one of the networks contains all of this one. */
  contains({ bytes, prefixLength }: Cidr): boolean {
    const around = this.#around(bytes);
    return around !== undefined && around.prefixLength <= prefixLength;
  }

  /** The networks that have addresses in common with this one: the one that contains it, or those within it. */
  overlapping(network: Cidr): readonly Cidr[] {
    const around = this.#around(network.bytes);
    if (around !== undefined && around.prefixLength <= network.prefixLength) return [around];
    const networks = this.#of(network.bytes);
    const start = firstAfter(networks, network.bytes, false);
    let end = start;
    for (let next = networks[end]; next !== undefined && cidrContains(network, next.bytes); next = networks[end]) end++;
    return networks.slice(start, end);
  }

  #of(bytes: readonly number[]): readonly Cidr[] {
    return bytes.length === 4 ? this.#v4 : this.#v6;
  }

  #around(bytes: readonly number[]): Cidr | undefined {
    const networks = this.#of(bytes);
    if (networks.length === 0) return undefined;
    const candidate = networks[firstAfter(networks, bytes, true) - 1];
    return candidate !== undefined && cidrContains(candidate, bytes) ? candidate : undefined;
  }
}

/** The position of the first network that begins at the address or later; `isStrict`: later. */
function firstAfter(networks: readonly Cidr[], bytes: readonly number[], isStrict: boolean): number {
  let [low, high] = [0, networks.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareBytes(networks[middle]?.bytes ?? bytes, bytes);
    if (order < 0 || (isStrict && order === 0)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function widest(networks: readonly Cidr[]): Cidr[] {
  const sorted = [...networks].sort((a, b) => compareBytes(a.bytes, b.bytes) || a.prefixLength - b.prefixLength);
  const kept: Cidr[] = [];
  for (const network of sorted) {
    const last = kept.at(-1);
    if (last === undefined || !cidrContains(last, network.bytes)) kept.push(network);
  }
  return kept;
}

/** Orders addresses of one family. */
export function compareBytes(a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < a.length; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
