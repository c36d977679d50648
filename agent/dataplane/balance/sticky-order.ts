import type { IpAddress } from '../../../shared/address.js';
import type { Endpoint } from '../../../shared/routing/destination.js';

/**
 * An order that depends only on the client and on which endpoints there are, so that every worker and every node has the same
 * one: a client keeps its endpoint for as long as that is one, and only the clients of an endpoint that goes move (rendezvous
 * hashing: the highest hash of client and endpoint is first).
 */
export function stickyOrder(endpoints: readonly Endpoint[], client: IpAddress): readonly Endpoint[] {
  const seed = hashOf(client, offsetBasis);
  return endpoints
    .map((endpoint) => ({ endpoint, score: mixed(hashOf(endpoint.address.ip, seed) ^ endpoint.address.port) }))
    .sort((a, b) => b.score - a.score || compare(a.endpoint, b.endpoint))
    .map(({ endpoint }) => endpoint);
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

/** By text, for equal hashes. */
function compare({ address: a }: Endpoint, { address: b }: Endpoint): number {
  if (a.ip === b.ip) return a.port - b.port;
  return a.ip < b.ip ? -1 : 1;
}
