import type { IpAddress } from '../address.js';
import type { Endpoint } from './destination.js';

type Scored = { readonly endpoint: Endpoint; readonly score: number };

/**
 * The first `count` of an order that depends only on the client and on which endpoints there are, so that every worker and
 * every node has the same one: a client keeps its endpoint for as long as that is one, and only the clients of an endpoint
 * that goes move (rendezvous hashing: the highest hash of client and endpoint is first).
 */
export function stickyOrder(endpoints: readonly Endpoint[], client: IpAddress, count: number): readonly Endpoint[] {
  const seed = hashOf(client, offsetBasis);
  // Few are ever tried, and a service may have thousands: they are not sorted.
  const first: Scored[] = [];
  let lowest = -1;
  for (const endpoint of endpoints) {
    const score = mixed(hashOf(endpoint.address.ip, seed) ^ endpoint.address.port);
    if (first.length >= count && score < lowest) continue;
    const scored = { endpoint, score };
    const at = first.findIndex((other) => precedes(scored, other));
    first.splice(at < 0 ? first.length : at, 0, scored);
    if (first.length > count) first.pop();
    lowest = first.at(-1)?.score ?? -1;
  }
  return first.map(({ endpoint }) => endpoint);
}

const offsetBasis = 0x81_1c_9d_c5;
const prime = 0x01_00_01_93;

/** FNV-1a, 32 bits. */
function hashOf(text: string, seed: number): number {
  let hash = seed;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), prime);
  return hash;
}

/** Every bit of the input decides about every bit of the result (the finalizer of MurmurHash3). */
function mixed(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85_eb_ca_6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2_b2_ae_35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** By text where the hashes are equal. */
function precedes(a: Scored, b: Scored): boolean {
  if (a.score !== b.score) return a.score > b.score;
  const [{ address: first }, { address: second }] = [a.endpoint, b.endpoint];
  return first.ip === second.ip ? first.port < second.port : first.ip < second.ip;
}
