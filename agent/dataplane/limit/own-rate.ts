import { byteBucketOf, dueAfter, type ByteBucket } from './token-bucket.js';

/** Bounds the bytes of one direction of one connection by a rate that it shares with no other. */
export class OwnRate {
  readonly #bucket: ByteBucket;
  readonly #nowNs: () => bigint;
  #due = 0n;

  /** `nowNs`: of a clock that never goes back. What one read brings is sent on whole, so a slow rate comes in bursts. */
  constructor(init: { readonly bytesPerSecond: number; readonly nowNs: () => bigint }) {
    this.#bucket = byteBucketOf(init.bytesPerSecond, { leastAheadBytes: 0 });
    this.#nowNs = init.nowNs;
  }

  /** Bytes have been read: for how long they are to wait before they go on, in milliseconds. */
  spend(bytes: number): number {
    const { due, waitNs } = dueAfter(this.#due, this.#nowNs(), { bytes, bucket: this.#bucket });
    this.#due = due;
    return Number(waitNs) / 1e6;
  }

  /** These were taken, and did not go on. */
  giveBack(bytes: number): void {
    this.spend(-bytes);
  }
}

/** Both bound the same direction. Either may be null. */
export function slowest(a: Spender | null, b: Spender): Spender {
  if (a === null) return b;
  const giveBack = (bytes: number): void => {
    a.giveBack(bytes);
    b.giveBack(bytes);
  };
  return { spend: (bytes) => Math.max(a.spend(bytes), b.spend(bytes)), giveBack };
}

type Spender = Pick<OwnRate, 'spend' | 'giveBack'>;
