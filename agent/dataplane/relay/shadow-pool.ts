/** Of one thread. A shadow needs a descriptor where it is on this host or outside the mesh: at most this part of all. */
const mostOpen = 1024;
const descriptorPart = 1 / 64;
const mostWaitingBytes = 33_554_432;

/** What the shadows of a thread may use together, so that they take nothing that served connections need. */
export class ShadowPool {
  readonly #mostOpen: number;
  readonly #mostWaitingBytes: number;
  #open = 0;
  #waitingBytes = 0;

  /** `descriptors`: how many files the process may have open. */
  constructor(init: { readonly descriptors: number; readonly mostWaitingBytes?: number }) {
    this.#mostOpen = Math.min(mostOpen, Math.floor(init.descriptors * descriptorPart));
    this.#mostWaitingBytes = init.mostWaitingBytes ?? mostWaitingBytes;
  }

  /** Bytes that shadows have not taken yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Why {@link enter} gave no place. */
  get fullText(): string {
    return `${this.#open} shadows are open on this thread, as many as may be`;
  }

  /** A place for one more connection to a shadow, until {@link leave}; false: there is none. */
  enter(): boolean {
    if (this.#open >= this.#mostOpen) return false;
    this.#open += 1;
    return true;
  }

  leave(): void {
    this.#open -= 1;
  }

  /** Whether this many bytes more may wait. They count until {@link giveBack}. */
  take(bytes: number): boolean {
    if (this.#waitingBytes + bytes > this.#mostWaitingBytes) return false;
    this.#waitingBytes += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#waitingBytes -= bytes;
  }
}
