import type { Cidr } from '../../address.js';

/**
 * Finds, among thousands of networks, those that an address lies in: one look-up for each prefix length that there is,
 * instead of one comparison for each network.
 */
export class NetworkIndex<T> {
  readonly #groups = new Map<string, NetworkGroup<T>>();

  add({ bytes, prefixLength }: Cidr, value: T): void {
    const name = `${bytes.length}/${prefixLength}`;
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { addressLength: bytes.length, prefixLength, byNetwork: new Map() };
      this.#groups.set(name, group);
    }
    const network = networkOf(bytes, prefixLength);
    const values = group.byNetwork.get(network);
    if (values === undefined) group.byNetwork.set(network, [value]);
    else values.push(value);
  }

  /** What was added with a network that holds the address, in network byte order; a value may come more than once. */
  forEach(ip: readonly number[], visit: (value: T) => void): void {
    for (const { addressLength, prefixLength, byNetwork } of this.#groups.values()) {
      if (addressLength !== ip.length) continue;
      for (const value of byNetwork.get(networkOf(ip, prefixLength)) ?? []) visit(value);
    }
  }
}

type NetworkGroup<T> = {
  readonly addressLength: number;
  readonly prefixLength: number;
  readonly byNetwork: Map<string, T[]>;
};

/** The bits of the prefix as a text that only this network of this length has. */
function networkOf(bytes: readonly number[], prefixLength: number): string {
  let text = '';
  for (let index = 0; index * 8 < prefixLength; index++) {
    const bits = Math.min(8, prefixLength - index * 8);
    text += String.fromCharCode((bytes[index] ?? 0) & (0xff << (8 - bits)) & 0xff);
  }
  return text;
}
