import { isGone, type RelayPeer } from './relay-peer.js';

/** One direction of a relayed connection. */
export type Direction = {
  readonly from: RelayPeer;
  readonly to: RelayPeer;
  /** Whose limits its bytes count for. */
  readonly workloads: readonly { readonly slot: number }[];
};

export type WaitingSums = {
  readonly bytesInAll: number;
  /** Bytes, by the slot of their workload. */
  readonly bySlot: ReadonlyMap<number, number>;
};

/**
 * The directions of a thread whose sender is held back, because its receiver has not taken yet what there is: they are
 * where bytes wait. All others hold what came in one turn of the event loop, and cost nothing here.
 */
export class BackpressureTracker {
  readonly #directions = new Set<Direction>();

  add(direction: Direction): void {
    this.#directions.add(direction);
  }

  delete(direction: Direction): void {
    this.#directions.delete(direction);
  }

  /** What waits now. The bytes of a connection between two workloads of this node count for both, and once in all. */
  waiting(): WaitingSums {
    const bySlot = new Map<number, number>();
    let bytesInAll = 0;
    for (const direction of this.#directions) {
      const { from, to, workloads } = direction;
      if (isGone(to) || isGone(from)) {
        this.#directions.delete(direction);
        continue;
      }
      const bytes = from.readableLength + to.writableLength;
      bytesInAll += bytes;
      for (const { slot } of workloads) bySlot.set(slot, (bySlot.get(slot) ?? 0) + bytes);
    }
    return { bytesInAll, bySlot };
  }
}
