/** Holds two of the largest pieces that are collected. */
const slabBytes = 8192;
/** A larger piece keeps at most four times its size alive, because TLS delivers 16 KiB. */
export const smallChunkBytes = 4096;

/**
 * Collects small pieces that wait for a slow reader. Otherwise each would be an object a hundred times its size and
 * keep the whole TLS record alive that it arrived in: a window of 4 MiB, filled byte by byte, would take hundreds of
 * megabytes.
 */
export class SmallChunks {
  #slab: Buffer | null = null;
  #used = 0;

  /** Bytes held. */
  get length(): number {
    return this.#used;
  }

  /** Copies a piece smaller than {@link smallChunkBytes}. Returns what was held before if there is no room for both. */
  add(chunk: Buffer): Buffer | null {
    const full = this.#used + chunk.length > slabBytes ? this.take() : null;
    this.#slab ??= Buffer.allocUnsafeSlow(slabBytes);
    chunk.copy(this.#slab, this.#used);
    this.#used += chunk.length;
    return full;
  }

  /** Everything that is held, in order. */
  take(): Buffer | null {
    const held = this.#slab?.subarray(0, this.#used) ?? null;
    this.#slab = null;
    this.#used = 0;
    return held;
  }
}
