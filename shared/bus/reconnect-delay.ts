const firstDelayMs = 250;
const longestDelayMs = 5000;

/**
 * How long to wait before attempt number `attempt` (0 is the first): doubling from a quarter of a second to five
 * seconds, of which a random half is taken away, so that a thousand agents do not come back in the same moment.
 */
export function reconnectDelayMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling * (0.5 + random() / 2));
}

/**
 * The delay between two dials of one connection. The client asks for it several times between two dials and waits
 * again whenever the answer grew, so it must not change before the next dial.
 */
export class ReconnectPace {
  #attempt = 0;
  #delayMs = reconnectDelayMs(0);

  currentMs(): number {
    return this.#delayMs;
  }

  /** An attempt begins: the one after it waits longer. */
  dialled(): void {
    this.#attempt += 1;
    this.#delayMs = reconnectDelayMs(this.#attempt);
  }

  /** The connection is up: after it is lost the delays begin anew. */
  connected(): void {
    this.#attempt = 0;
    this.#delayMs = reconnectDelayMs(0);
  }
}
