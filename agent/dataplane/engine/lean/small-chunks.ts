/** One buffer of it holds two of the largest pieces that are gathered. */
const slabBytes = 8192;
/** A larger piece keeps at most four times its size alive: TLS hands out 16 KiB. */
export const smallChunkBytes = 4096;

/**
 * Small pieces that wait for a slow reader, put together. Each would else be an object of its own, a hundred times its
 * size, and would keep the whole TLS record alive that it came in: a window of 4 MiB, filled byte by byte, would be
 * hundreds of megabytes.
 */
export class SmallChunks {
  #slab: Buffer | null = null;
  #used = 0;

  /** Bytes that are held. */
  get length(): number {
    return this.#used;
  }

  /** Copies a piece below {@link smallChunkBytes}; returns what was held before when there is no room for both. */
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
