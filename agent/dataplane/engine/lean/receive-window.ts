/**
 * What a peer may still send on the whole connection (RFC 9113 §5.2). Credit is announced in portions: a WINDOW_UPDATE
 * for each chunk would cost more than the chunk.
 */
export class ReceiveWindow {
  readonly #windowBytes: number;
  #available: number;
  #unannounced = 0;

  /** `availableBytes`: what the peer knows of, if that is less than the whole window; the rest is announced at once. */
  constructor(init: { readonly windowBytes: number; readonly availableBytes?: number }) {
    this.#windowBytes = init.windowBytes;
    this.#available = init.availableBytes ?? init.windowBytes;
    this.#unannounced = init.windowBytes - this.#available;
  }

  /** False if the peer sends more than it may. */
  take(bytes: number): boolean {
    this.#available -= bytes;
    return this.#available >= 0;
  }

  /** Returns `bytes` to the window; the result is what to announce now, or 0 if it is too little yet. */
  credit(bytes: number): number {
    this.#unannounced += bytes;
    if (this.#unannounced * announcedParts < this.#windowBytes) return 0;
    const announced = this.#unannounced;
    this.#unannounced = 0;
    this.#available += announced;
    return announced;
  }
}

/** A portion is this fraction of the window: small enough that a sender at full speed never waits for it. */
const announcedParts = 4;
