const firstDelayMs = 250;
const longestDelayMs = 5000;

/**
 * Milliseconds to wait before retry number `attempt` (from 0): doubles from 250 ms to 5 s, minus a random part of up to
 * half, so that a thousand agents do not reconnect at the same moment.
 */
export function reconnectDelayMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling * (0.5 + random() / 2));
}

/**
 * The delay between two dials of one connection. The client reads it several times between two dials and waits again
 * whenever it grew, so it must not change before the next dial.
 */
export class ReconnectPace {
  #attempt = 0;
  #delayMs = reconnectDelayMs(0);

  /** Whether an attempt has begun since the connection was last up. */
  get hasDialled(): boolean {
    return this.#attempt > 0;
  }

  currentMs(): number {
    return this.#delayMs;
  }

  /** Call when an attempt begins; the next delay is longer. */
  dialled(): void {
    this.#attempt += 1;
    this.#delayMs = reconnectDelayMs(this.#attempt);
  }

  /** Call when the connection is up; it resets the delay. */
  connected(): void {
    this.#attempt = 0;
    this.#delayMs = reconnectDelayMs(0);
  }
}
