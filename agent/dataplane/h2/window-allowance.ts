/** What the windows of one connection's streams may be: each of them, and all together. */
export class WindowAllowance {
  /** Of a new stream; it has this whether as much is left or not. */
  readonly firstBytes: number;
  /** Of one stream. */
  readonly mostBytes: number;
  /** Monotonic. */
  readonly nowMs: () => number;
  #leftBytes: number;

  /** `totalBytes`: beyond it no stream gets more than its first window. */
  constructor(options: {
    readonly firstBytes: number;
    readonly mostBytes: number;
    readonly totalBytes: number;
    readonly nowMs: () => number;
  }) {
    this.firstBytes = options.firstBytes;
    this.mostBytes = options.mostBytes;
    this.nowMs = options.nowMs;
    this.#leftBytes = options.totalBytes;
  }

  /** For a stream that begins. */
  takeFirst(): void {
    this.#leftBytes -= this.firstBytes;
  }

  /** For a stream whose window is to grow; false when so much is not left. */
  take(bytes: number): boolean {
    if (bytes > this.#leftBytes) return false;
    this.#leftBytes -= bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#leftBytes += bytes;
  }
}
