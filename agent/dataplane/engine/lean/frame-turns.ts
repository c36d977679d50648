/**
 * Frames of one connection that are handled when they arrive, in one turn of the event loop. A tunnel with 256 busy streams has
 * one of each in a turn. With fewer, their answers go out in several writes, which costs a fifth of its requests per second.
 */
export const promptFrames = 256;
/** For what is left, of all connections together, in one turn. */
const lateMs = 1;
/** Frames of one of them until the clock is read and the next one has its turn. */
const framesAtOnce = 64;

/** A connection whose peer sent more frames than are handled in a turn. */
export type FrameBacklog = {
  /** Handles at most `mostFrames` of what has come. Returns whether more are left. */
  readonly handle: (mostFrames: number) => boolean;
};

/**
 * What many small frames of one peer cost the others of a thread. TLS brings up to two megabytes in one turn of the event loop:
 * milliseconds of work in large frames, and half a second in frames of one byte. So a connection handles some frames when they
 * come, then stops reading, and gets to the rest in turns with other such connections, a millisecond at a time.
 */
export class FrameTurns {
  /** In the order of their turns. */
  readonly #waiting = new Set<FrameBacklog>();
  readonly #nowMs: () => number;
  readonly #onTurn = (): void => this.#nextTurn();
  #isTurnSet = false;

  constructor({ nowMs = () => performance.now() }: { readonly nowMs?: () => number } = {}) {
    this.#nowMs = nowMs;
  }

  /** It has frames that wait. Its `handle` is called until it has none. */
  wait(backlog: FrameBacklog): void {
    this.#waiting.add(backlog);
    this.#goOn();
  }

  /** It has gone. */
  leave(backlog: FrameBacklog): void {
    this.#waiting.delete(backlog);
  }

  #goOn(): void {
    if (this.#isTurnSet || this.#waiting.size === 0) return;
    this.#isTurnSet = true;
    setImmediate(this.#onTurn);
  }

  #nextTurn(): void {
    this.#isTurnSet = false;
    const endMs = this.#nowMs() + lateMs;
    for (const next of this.#waiting) {
      // A set keeps the order of insertion: what was served goes to the end, and this loop meets it again.
      this.#waiting.delete(next);
      if (next.handle(framesAtOnce)) this.#waiting.add(next);
      if (this.#nowMs() >= endMs) break;
    }
    this.#goOn();
  }
}
