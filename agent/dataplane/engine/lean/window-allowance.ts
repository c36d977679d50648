/**
 * More than the kernel's buffers of an application take from us before it shows that it does not read: a window that grew
 * for these bytes would only be filled, and be missing for others.
 */
const scarceProvenBytes = 4_194_304;

/**
 * What the windows of one connection's streams may be: each of them, and all together. What is taken for a stream that is
 * open is never less than what its peer may send and what waits for its reader. So both together, of all streams, are at
 * most `totalBytes`, and a first window for each stream that began after the others had grown.
 */
export class WindowAllowance {
  readonly #totalBytes: number;
  /** Of a new stream; it has this whether as much is left or not. */
  readonly firstBytes: number;
  /** Of one stream. */
  readonly mostBytes: number;
  /** Monotonic. */
  readonly nowMs: () => number;
  #leftBytes: number;

  /** `totalBytes`: windows grow only as long as less than this is taken. */
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

  /** So much must have been read without being late before a window may grow: nothing while half is left. */
  get provenBytes(): number {
    return 2 * this.#leftBytes < this.#totalBytes ? scarceProvenBytes : 0;
  }

  /** For a stream that begins. */
  takeFirst(): void {
    this.#leftBytes -= this.firstBytes;
  }

  /**
   * For a stream whose window of `bytes` is to be `grownBytes`. False unless as much as that is left then: one that comes
   * later, and keeps up, must not find everything taken by those that do not read any more.
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
