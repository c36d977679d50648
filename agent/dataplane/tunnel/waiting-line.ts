import type { NoTunnel } from './tunnel-dial.js';

/** Ends with null when a request may look for a tunnel again, otherwise with why it need not. */
export type WaitForTunnel = Promise<NoTunnel | null>;

/** A request in the line. Who stands there leaves. */
export interface PlaceInLine {
  readonly isFirst: boolean;
  /** Ends with null when this place is the first one, and with a failure when what the first one waited for has failed. */
  untilFirst(): WaitForTunnel;
  /** What the first one waited for has failed, and so it has for all who stand behind it. */
  fail(failure: NoTunnel): void;
  /** Also twice. */
  leave(): void;
}

/**
 * Requests that wait for room in tunnels, in the order in which they came. Only the first one looks for a tunnel, and the next
 * one when that has left: where all looked whenever something changed, thousands that wait would cost a thread many
 * milliseconds for each few that find room.
 */
export class WaitingLine {
  /** Linked, and no Set: to its first member a Set passes over those that have left, thousands of them in a long line. */
  #first: Place | null = null;
  #last: Place | null = null;

  get isEmpty(): boolean {
    return this.#first === null;
  }

  /** At its end. */
  stand(): PlaceInLine {
    const place = new Place({
      isFirst: () => this.#first === place,
      onFail: (failure) => {
        for (let each = this.#first; each !== null; each = each.next) if (each !== place) each.wake(failure);
      },
      onLeave: () => this.#remove(place),
    });
    place.previous = this.#last;
    if (this.#last === null) this.#first = place;
    else this.#last.next = place;
    this.#last = place;
    return place;
  }

  #remove(place: Place): void {
    const { previous, next } = place;
    if (previous === null) this.#first = next;
    else previous.next = next;
    if (next === null) this.#last = previous;
    else next.previous = previous;
    if (previous === null) next?.wake(null);
  }
}

class Place implements PlaceInLine {
  /** Of the line, which changes them. */
  previous: Place | null = null;
  next: Place | null = null;
  readonly #isFirst: () => boolean;
  readonly #onFail: (failure: NoTunnel) => void;
  readonly #onLeave: () => void;
  #onWoken: ((outcome: NoTunnel | null) => void) | null = null;
  #hasLeft = false;

  constructor(init: {
    readonly isFirst: () => boolean;
    readonly onFail: (failure: NoTunnel) => void;
    readonly onLeave: () => void;
  }) {
    this.#isFirst = init.isFirst;
    this.#onFail = init.onFail;
    this.#onLeave = init.onLeave;
  }

  get isFirst(): boolean {
    return this.#isFirst();
  }

  async untilFirst(): WaitForTunnel {
    if (this.isFirst) return null;
    return await new Promise((resolve) => (this.#onWoken = resolve));
  }

  fail(failure: NoTunnel): void {
    this.#onFail(failure);
  }

  leave(): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#onLeave();
  }

  wake(outcome: NoTunnel | null): void {
    this.#onWoken?.(outcome);
    this.#onWoken = null;
  }
}
