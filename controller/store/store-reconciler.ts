import { setTimeout as delay } from 'node:timers/promises';
import type { Bus } from '../../shared/bus/bus.js';
import { reconnectDelayMs } from '../../shared/bus/reconnect-delay.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { ResourceStore } from './resource-store.js';

/** How often the pointer is checked, and how often everything is compared. */
const checkEveryMs = 30_000;
const compareEveryMs = 300_000;

/**
 * Keeps NATS equal to what was applied. Runs after the first connection, after every reconnect (the server may have lost
 * acknowledged writes, or its whole store), after a failure, and periodically. Ends with the signal.
 */
export class StoreReconciler {
  readonly #store: ResourceStore;
  readonly #bus: Bus;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  readonly #afterSettling: () => Promise<void>;
  #problem: string | null = null;
  #wake = new AbortController();

  constructor(init: {
    readonly store: ResourceStore;
    readonly bus: Bus;
    readonly log: Log;
    readonly signal: AbortSignal;
    /** Called whenever everything was compared. A failure of it is handled like one of `settle`. */
    readonly afterSettling: () => Promise<void>;
  }) {
    this.#store = init.store;
    this.#bus = init.bus;
    this.#log = init.log;
    this.#signal = init.signal;
    this.#afterSettling = init.afterSettling;
  }

  /** Why NATS does not hold what was applied; null when it does, or before the first attempt. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const stopListening = this.#bus.onStatus((status) => {
      if (status === 'connected') this.#wake.abort();
    });
    let failures = 0;
    let comparedAt = Number.NEGATIVE_INFINITY;
    while (!this.#signal.aborted) {
      const isReconnect = this.#wake.signal.aborted;
      this.#wake = new AbortController();
      try {
        const isDue = isReconnect || performance.now() - comparedAt > compareEveryMs;
        if (isDue || !(await this.#store.holds())) {
          await this.#store.settle();
          await this.#afterSettling();
          comparedAt = performance.now();
        }
        this.#report(null);
        failures = 0;
      } catch (error) {
        // What a stop cuts off is no problem of the store.
        if (this.#signal.aborted) break;
        comparedAt = Number.NEGATIVE_INFINITY;
        failures += 1;
        this.#report(error);
      }
      await this.#pause(failures === 0 ? checkEveryMs : reconnectDelayMs(failures - 1));
    }
    stopListening();
  }

  async #pause(ms: number): Promise<void> {
    const signal = AbortSignal.any([this.#signal, this.#wake.signal]);
    await delay(ms, undefined, { signal }).catch(() => undefined);
  }

  #report(error: unknown): void {
    const problem = error === null ? null : describeError(error);
    if (problem !== this.#problem) {
      if (problem === null) this.#log.info('NATS holds everything that was applied');
      else this.#log.error({ err: error }, 'NATS does not hold everything that was applied; retrying');
    }
    this.#problem = problem;
  }
}
