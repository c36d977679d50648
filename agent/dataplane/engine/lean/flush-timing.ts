/** This many bytes justify a separate write. */
const promptBytes = 16_384;
/** Maximum number of event-loop turns that fewer bytes wait for more. */
const longestTurns = 2;

/**
 * Decides when a session's output is sent: at the end of the event-loop turn or, while more keeps coming, a few turns
 * later. Each write costs a TLS record, a packet and a wake-up of the other agent, however small it is. A turn is short
 * while there is work, and the loop never blocks with a flush pending. So a busy session combines the data of several
 * connections into one write, and an idle one answers at once.
 */
export class FlushTiming {
  readonly #flush: () => void;
  readonly #mayWait: () => boolean;
  readonly #wantTurn: () => void;
  #turns = 0;
  #requests = 0;
  #requestsSeen = 0;
  #bytes = 0;

  /** `mayWait`: whether more data may be coming. `wantTurn` asks for {@link endTurn}, also when it has asked already. */
  constructor(init: { readonly flush: () => void; readonly mayWait: () => boolean; readonly wantTurn: () => void }) {
    this.#flush = init.flush;
    this.#mayWait = init.mayWait;
    this.#wantTurn = init.wantTurn;
  }

  /** Whether the output must be sent without waiting. */
  get isUrgent(): boolean {
    return this.#bytes >= promptBytes;
  }

  /** New output is available; `bytes` of it are data. */
  request(bytes: number): void {
    this.#requests += 1;
    this.#bytes += bytes;
    this.arm();
  }

  arm(): void {
    this.#wantTurn();
  }

  /** The waiting output is being sent: all of it, or as much as one write takes. */
  sent({ isMoreLeft }: { readonly isMoreLeft: boolean }): void {
    this.#turns = 0;
    this.#requests = 0;
    this.#requestsSeen = 0;
    this.#bytes = isMoreLeft ? promptBytes : 0;
  }

  endTurn(): void {
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
