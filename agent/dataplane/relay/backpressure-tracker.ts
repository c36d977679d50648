import type { RelayPeer } from './relay-peer.js';

/** One direction of a relayed connection. */
export type Direction = {
  readonly from: RelayPeer;
  readonly to: RelayPeer;
  /** The workloads whose limits its bytes count towards. */
  readonly workloads: readonly { readonly slot: number }[];
  /** Read of the sender, and held back for a rate; absent: none. */
  readonly heldBytes?: number;
};

export type WaitingSums = {
  readonly bytesInAll: number;
  /** Bytes, by the slot of their workload. */
  readonly bySlot: ReadonlyMap<number, number>;
};

/**
 * The directions on this thread whose sender is paused because the receiver has not taken the bytes yet, or a rate does not
 * let them go on: this is where bytes wait. All other directions hold only what arrived in one turn of the event loop, and cost
 * nothing here.
 */
export class BackpressureTracker {
  readonly #directions = new Set<Direction>();

  add(direction: Direction): void {
    this.#directions.add(direction);
  }

  delete(direction: Direction): void {
    this.#directions.delete(direction);
  }

  /** What waits now. Bytes between two workloads of this node count for both, and once in the total. */
  waiting(): WaitingSums {
    const bySlot = new Map<number, number>();
    let bytesInAll = 0;
    for (const direction of this.#directions) {
      const { from, to, workloads, heldBytes = 0 } = direction;
      if (to.isGone || from.isGone) {
        this.#directions.delete(direction);
        continue;
      }
      const bytes = from.unreadBytes + heldBytes + to.waitingBytes;
      bytesInAll += bytes;
      for (const { slot } of workloads) bySlot.set(slot, (bySlot.get(slot) ?? 0) + bytes);
    }
    return { bytesInAll, bySlot };
  }
}
