import type { Cidr } from '../../address.js';

/**
 * Finds the networks that contain an address among thousands, with one look-up per distinct prefix length instead of
 * one comparison per network.
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

  /**
   * Visits the values of all networks that contain the address (network byte order). A value may be visited more than
   * once.
   */
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

/** The prefix bits as text, unique among networks of this length. */
function networkOf(bytes: readonly number[], prefixLength: number): string {
  let text = '';
  for (let index = 0; index * 8 < prefixLength; index++) {
    const bits = Math.min(8, prefixLength - index * 8);
    text += String.fromCharCode((bytes[index] ?? 0) & (0xff << (8 - bits)) & 0xff);
  }
  return text;
}
