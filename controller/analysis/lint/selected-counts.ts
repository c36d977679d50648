import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from '../pairs/mesh-party.js';
import type { Selectors, Side } from '../pairs/selectors.js';

/** How many workloads peers stand for, asked once for peers that are written alike. */
export class SelectedCounts {
  readonly #ends: readonly MeshParty[];
  readonly #selectors: Selectors;
  readonly #known = new Map<string, number>();

  constructor(init: { readonly ends: readonly MeshParty[]; readonly selectors: Selectors }) {
    this.#ends = init.ends;
    this.#selectors = init.selectors;
  }

  /** All of them when the list is empty. */
  of(peers: readonly PeerMatch[], side: Side): number {
    const selector = this.#selectors.peers(side, peers, false);
    const key = selector?.key ?? '';
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const selected = this.#ends.filter((end) => selector === null || selector.selects(end));
    const count = new Set(selected.map(({ name }) => name)).size;
    this.#known.set(key, count);
    return count;
  }
}
