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
  /** A set keeps the order of insertion. */
  readonly #places = new Set<Place>();

  get isEmpty(): boolean {
    return this.#places.size === 0;
  }

  /** At its end. */
  stand(): PlaceInLine {
    const place = new Place({
      isFirst: () => this.#first === place,
      onFail: (failure) => {
        for (const each of this.#places) if (each !== place) each.wake(failure);
      },
      onLeave: () => {
        const wasFirst = this.#first === place;
        if (this.#places.delete(place) && wasFirst) this.#first?.wake(null);
      },
    });
    this.#places.add(place);
    return place;
  }

  get #first(): Place | undefined {
    const [first] = this.#places;
    return first;
  }
}

class Place implements PlaceInLine {
  readonly #isFirst: () => boolean;
  readonly #onFail: (failure: NoTunnel) => void;
  readonly #onLeave: () => void;
  #onWoken: ((outcome: NoTunnel | null) => void) | null = null;

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
    this.#onLeave();
  }

  wake(outcome: NoTunnel | null): void {
    this.#onWoken?.(outcome);
    this.#onWoken = null;
  }
}
