/** So many bytes are worth a write of their own. */
const promptBytes = 16_384;
/** Turns of the event loop that less may wait for company. */
const longestTurns = 2;

/**
 * When what a session has to send is sent: at the end of the turn of the event loop, and as long as more keeps coming, some
 * turns later. A write costs a TLS record, a packet and a wake-up of the other agent, however little is in it. A turn
 * is short while there is work and never begins to wait with a flush pending, so a busy session shares a write among
 * connections and an idle one answers at once.
 */
export class FlushTiming {
  readonly #flush: () => void;
  readonly #mayWait: () => boolean;
  readonly #onTurn = (): void => this.#endTurn();
  #pending: NodeJS.Immediate | undefined;
  #turns = 0;
  #requests = 0;
  #requestsSeen = 0;
  #bytes = 0;

  /** `mayWait`: there may be others to wait for. */
  constructor(init: { readonly flush: () => void; readonly mayWait: () => boolean }) {
    this.#flush = init.flush;
    this.#mayWait = init.mayWait;
  }

  /** What is to be sent waits for nothing. */
  get isUrgent(): boolean {
    return this.#bytes >= promptBytes;
  }

  /** There is something new to be sent, with so many bytes of data in it. */
  request(bytes: number): void {
    this.#requests += 1;
    this.#bytes += bytes;
    this.arm();
  }

  arm(): void {
    // Not a microtask: TLS hands out 16 KiB at a time, and the microtasks run between them.
    this.#pending ??= setImmediate(this.#onTurn);
  }

  /** What waited is being sent: all of it, or as much as one write takes. */
  sent({ isMoreLeft }: { readonly isMoreLeft: boolean }): void {
    this.#turns = 0;
    this.#requests = 0;
    this.#requestsSeen = 0;
    this.#bytes = isMoreLeft ? promptBytes : 0;
  }

  cancel(): void {
    clearImmediate(this.#pending);
  }

  #endTurn(): void {
    this.#pending = undefined;
    const hasMore = this.#requests > this.#requestsSeen;
    if (hasMore && this.#turns < longestTurns && !this.isUrgent && this.#mayWait()) {
      this.#turns += 1;
      this.#requestsSeen = this.#requests;
      this.arm();
      return;
    }
    this.#flush();
  }
}
