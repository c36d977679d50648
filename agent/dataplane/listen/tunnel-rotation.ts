/** Peers whose turn is remembered. After them the rotation begins again, which costs a little balance. */
const mostPeers = 4096;

/**
 * Which worker serves the next tunnel from a peer. A peer spreads its streams over a few tunnels, so each worker gets as
 * many of these as the others.
 */
export class TunnelRotation {
  readonly #own: number;
  /** By peer: the worker that got its last tunnel. */
  readonly #last = new Map<string, number>();

  constructor(init: { readonly own: number }) {
    this.#own = init.own;
  }

  /** Of `others`, null for the own worker. */
  next(peer: string, others: readonly number[]): number | null {
    if (others.length === 0) return null;
    const workers = [this.#own, ...others].sort((a, b) => a - b);
    const last = this.#last.get(peer) ?? startOf(this.#last.size, workers);
    const chosen = workers.find((worker) => worker > last) ?? workers[0]!;
    if (this.#last.size >= mostPeers) this.#last.clear();
    this.#last.set(peer, chosen);
    return chosen === this.#own ? null : chosen;
  }
}

/** Peers with one tunnel each are spread too. */
function startOf(peers: number, workers: readonly number[]): number {
  return workers[peers % workers.length]!;
}
