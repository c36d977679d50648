import type { Scheduler } from '../../../agent/thread/scheduler.js';

/** A clock that moves only when a test moves it. */
export class FakeScheduler implements Scheduler {
  #nowMs: number;
  #elapsedMs = 0;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  constructor(startMs = 1_800_000_000_000) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  elapsedMs(): number {
    return this.#elapsedMs;
  }

  /** In the middle: no jitter. */
  random(): number {
    return 0.5;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((candidate) => candidate !== timer);
    };
  }

  get nextInMs(): number | null {
    if (this.#timers.length === 0) return null;
    return Math.min(...this.#timers.map((timer) => timer.atMs)) - this.#nowMs;
  }

  /** Sets the clock, as an operator or a suspended host would. Timers do not notice. */
  setClock(nowMs: number): void {
    const stepMs = nowMs - this.#nowMs;
    this.#nowMs = nowMs;
    this.#timers = this.#timers.map(({ atMs, callback }) => ({ atMs: atMs + stepMs, callback }));
  }

  /** Moves to the next timer and runs it. */
  runNext(): void {
    const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined) throw new Error('no timer is set');
    this.#timers = this.#timers.filter((timer) => timer !== next);
    const passedMs = Math.max(0, next.atMs - this.#nowMs);
    this.#nowMs += passedMs;
    this.#elapsedMs += passedMs;
    next.callback();
  }
}
