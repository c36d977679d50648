/**
 * More than the kernel's buffers of an application take from us before a stalled reader shows. A window that grew
 * because of these bytes would only be filled and be missing for other streams.
 */
const scarceProvenBytes = 4_194_304;

/**
 * How large the windows of one connection's streams may be, each of them and all together. The allowance taken for an
 * open stream is never less than what its peer may send plus what waits for its reader. So the total of both, over all
 * streams, is at most `totalBytes` plus a first window for each stream that began after the others had grown.
 */
export class WindowAllowance {
  readonly #totalBytes: number;
  /** Window of a new stream, which it gets even if less is left. */
  readonly firstBytes: number;
  /** Maximum window of one stream. */
  readonly mostBytes: number;
  /** Monotonic. */
  readonly nowMs: () => number;
  #leftBytes: number;

  /** `totalBytes`: windows grow only while less than this is taken. */
  constructor(init: {
    readonly firstBytes: number;
    readonly mostBytes: number;
    readonly totalBytes: number;
    readonly nowMs: () => number;
  }) {
    this.firstBytes = init.firstBytes;
    this.mostBytes = init.mostBytes;
    this.nowMs = init.nowMs;
    this.#totalBytes = init.totalBytes;
    this.#leftBytes = init.totalBytes;
  }

  /** How much must have been read in time before a window may grow: nothing while half of the total is left. */
  get provenBytes(): number {
    return 2 * this.#leftBytes < this.#totalBytes ? scarceProvenBytes : 0;
  }

  /** Takes the window of a new stream. */
  takeFirst(): void {
    this.#leftBytes -= this.firstBytes;
  }

  /**
   * Takes what a window needs to grow from `bytes` to `grownBytes`. False unless `grownBytes` are left afterwards: a
   * later stream that keeps up must not find everything taken by stalled ones.
   */
  grow(bytes: number, grownBytes: number): boolean {
    const left = this.#leftBytes - (grownBytes - bytes);
    if (left < grownBytes) return false;
    this.#leftBytes = left;
    return true;
  }

  giveBack(bytes: number): void {
    this.#leftBytes += bytes;
  }
}
