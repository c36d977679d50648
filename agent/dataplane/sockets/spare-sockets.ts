import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { mostDialSockets, spareSockets } from '../../native/dial-sockets.js';
import { ownTrafficMark } from '../../ports.js';
import type { DescriptorReserve } from './descriptor-reserve.js';

/** Spare sockets that nothing took for this long are closed, and a workload that dials less often gets none. */
const idleMs = 1000;

/**
 * Sockets of one namespace, made ahead of the connections that dial with them: to make one takes a request to another process,
 * and a request makes many. A workload that dials seldom has none ready. Each batch is twice the one before, as long as that
 * one was used up within a second.
 */
export class SpareSockets {
  readonly #ready: Readonly<Record<4 | 6, number[]>> = { 4: [], 6: [] };
  readonly #batches: Record<4 | 6, { size: number; madeAtMs: number }> = {
    4: { size: 1, madeAtMs: Number.NEGATIVE_INFINITY },
    6: { size: 1, madeAtMs: Number.NEGATIVE_INFINITY },
  };
  #descriptors: DescriptorReserve | null = null;
  #idleTimer: NodeJS.Timeout | null = null;
  #isUsed = false;

  /**
   * A transparent, marked, unconnected socket for `aimSpare`, which is the caller's. `netnsFd`: always that of the same
   * namespace. Throws what `spareSockets` throws where there is none ready and none can be made.
   */
  take(netnsFd: number, family: 4 | 6, descriptors: DescriptorReserve): number {
    this.#isUsed = true;
    const fd = this.#ready[family].pop();
    if (fd === undefined) return this.#make(netnsFd, family, descriptors);
    descriptors.giveBack(1);
    return fd;
  }

  /** Closes those that are ready. Later ones are made again. */
  close(): void {
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer);
    this.#idleTimer = null;
    for (const ready of [this.#ready[4], this.#ready[6]]) {
      this.#descriptors?.giveBack(ready.length);
      for (const fd of ready.splice(0)) closeFd(fd);
    }
  }

  #make(netnsFd: number, family: 4 | 6, descriptors: DescriptorReserve): number {
    const batch = this.#batches[family];
    const nowMs = performance.now();
    batch.size = nowMs - batch.madeAtMs < idleMs ? Math.min(2 * batch.size, mostDialSockets) : 1;
    batch.madeAtMs = nowMs;
    this.#descriptors = descriptors;
    const spare = descriptors.setAside(batch.size - 1);
    const [first, ...rest] = this.#ask(netnsFd, family, spare);
    for (const fd of rest) {
      // What is left belongs to connections that have come.
      if (descriptors.isTouchedBy(fd)) closeFd(fd);
      else this.#ready[family].push(fd);
    }
    descriptors.giveBack(spare - this.#ready[family].length);
    if (this.#ready[family].length > 0) this.#watchIdle();
    return first;
  }

  /** One, and up to `spare` more. */
  #ask(netnsFd: number, family: 4 | 6, spare: number): readonly [number, ...number[]] {
    const made = { netnsFd, family, mark: ownTrafficMark };
    try {
      return spareSockets({ ...made, count: 1 + spare });
    } catch (error) {
      // All are lost when one finds no descriptor here.
      if (spare > 0 && error instanceof CulvertError && error.code === 'EMFILE') {
        this.#batches[family].size = 1;
        try {
          return spareSockets({ ...made, count: 1 });
        } catch {
          // The first failure tells more.
        }
      }
      this.#descriptors?.giveBack(spare);
      throw error;
    }
  }

  #watchIdle(): void {
    this.#idleTimer ??= setTimeout(() => {
      this.#idleTimer = null;
      if (!this.#isUsed) this.close();
      else if (this.#ready[4].length + this.#ready[6].length > 0) this.#watchIdle();
      this.#isUsed = false;
    }, idleMs).unref();
  }
}
