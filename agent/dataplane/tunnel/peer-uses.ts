import type { ProvedPeer } from './server-handshakes.js';

/**
 * Tunnels of one peer beyond those that its connections need: each data-plane thread of its agent has some, and new ones
 * while old ones end.
 */
const spareTunnels = 128;

/** Streams that were answered count for as many that are given up, and for no more than this. */
const mostAnswered = 1000;

/**
 * What one proved peer uses of one workload here. `answered`: streams that lived, less those that the peer has given up before
 * they were answered.
 */
export type PeerUse = {
  tunnels: number;
  streams: number;
  answered: number;
  readonly key: string;
  readonly title: string;
};

type Limits = { readonly maxConnectionsPerPeer: number; readonly maxStreamsPerTunnel: number };

/**
 * Counts tunnels and streams by what the peer has proved: its identity, and the address of its workload. So a workload
 * elsewhere cannot take all places that a workload here has for connections.
 */
export class PeerUses {
  readonly #maxStreams: number;
  readonly #maxTunnels: number;
  readonly #uses = new Map<string, PeerUse>();

  /** `workers`: the threads that share the peer's connections; tunnels go to them in turn. */
  constructor({ limits, workers }: { readonly limits: Limits; readonly workers: number }) {
    this.#maxStreams = Math.ceil(limits.maxConnectionsPerPeer / workers);
    this.#maxTunnels = Math.ceil(this.#maxStreams / limits.maxStreamsPerTunnel) + spareTunnels;
  }

  /** A tunnel begins. Null when the peer has too many; otherwise {@link tunnelEnded} must follow. */
  beginTunnel({ listener, identity, address }: Pick<ProvedPeer, 'listener' | 'identity' | 'address'>): PeerUse | null {
    const title = `${identity} at ${address.ip}`;
    const key = `${listener.workload} ${title}`;
    let use = this.#uses.get(key);
    if (use === undefined) this.#uses.set(key, (use = { tunnels: 0, streams: 0, answered: 0, key, title }));
    if (use.tunnels >= this.#maxTunnels) return null;
    use.tunnels += 1;
    return use;
  }

  tunnelEnded(use: PeerUse): void {
    use.tunnels -= 1;
    if (use.tunnels === 0) this.#uses.delete(use.key);
  }

  /** A stream of the peer was answered with 200. */
  streamAnswered(use: PeerUse): void {
    if (use.answered < mostAnswered) use.answered += 1;
  }

  /**
   * The peer gave up a stream before it was answered. Returns whether that is more than its part: an application whose clients
   * give up half of their connections is no attacker.
   */
  isGivenUpForNothing(use: PeerUse): boolean {
    if (use.answered === 0) return true;
    use.answered -= 1;
    return false;
  }

  /** The limit that the peer exceeds, its present streams included; null when it exceeds none. */
  exceeded({ streams, title }: PeerUse): string | null {
    return streams > this.#maxStreams ? `limit ${this.#maxStreams} of a thread for ${title}` : null;
  }
}
