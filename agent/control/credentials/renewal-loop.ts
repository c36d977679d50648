import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { backoffMs, hasGoneBack, longestWaitMs, type Scheduler } from '../../thread/scheduler.js';

/** `obtainedAtMs`: by this host's clock; half of the life counts from here, because CAs set NotBefore back in time. */
export type Validity = { readonly obtainedAtMs: number; readonly notAfterMs: number };

/** What an attempt did for one key: the new validity, or why it failed. */
export type RenewalOutcome = Validity | { readonly problem: string };

export type RenewalFailure = {
  readonly problem: string;
  /** In a row. */
  readonly attempts: number;
  readonly retryInMs: number;
  /** Until what is held expires; 0: nothing is held, or it has expired. */
  readonly leftMs: number;
};

type Slot = {
  validity: Validity | null;
  failures: number;
  dueAtMs: number;
  /** When `dueAtMs` was set. A clock that is set back to before this makes the key due. */
  setAtMs: number;
  problem: string | null;
};

/** Keys that are due within this time of each other share one attempt. */
const batchWindowMs = 200;
const firstRetryMs = 1000;

/**
 * Renews things that expire, by key, at half of their life ± jitter. Failed attempts back off, and retry faster as the
 * expiry approaches. Polls the clock every minute, so it notices within a minute that the host slept or that its clock
 * was set. One attempt runs at a time. Owns its timer; `close` stops it and aborts the attempt's signal.
 */
export class RenewalLoop<Key> {
  readonly #init: RenewalLoopInit<Key>;
  readonly #slots = new Map<Key, Slot>();
  readonly #abort = new AbortController();
  #cancelTimer: (() => void) | null = null;
  #isAttempting = false;

  constructor(init: RenewalLoopInit<Key>) {
    this.#init = init;
  }

  /** Starts to renew a key. `validity`: of what is held already; null makes the key due at once. */
  add(key: Key, validity: Validity | null): void {
    const nowMs = this.#init.scheduler.nowMs();
    const due = validity === null ? { dueAtMs: nowMs, setAtMs: nowMs } : this.#dueOf(validity);
    this.#slots.set(key, { validity, failures: 0, problem: null, ...due });
    this.#arm();
  }

  delete(key: Key): void {
    if (this.#slots.delete(key)) this.#arm();
  }

  /** Why the last attempt for this key failed; null: it succeeded, or there was none. */
  problemOf(key: Key): string | null {
    return this.#slots.get(key)?.problem ?? null;
  }

  /** Retries every failed key at once, because the controller can be reached again. */
  retryNow(): void {
    const nowMs = this.#init.scheduler.nowMs();
    for (const slot of this.#slots.values()) if (slot.failures > 0) slot.dueAtMs = Math.min(slot.dueAtMs, nowMs);
    this.#arm();
  }

  /** Makes a key due within `withinMs`, at a random moment, because what is held is no longer what is needed. */
  renewSoon(key: Key, withinMs: number): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    const { scheduler } = this.#init;
    const nowMs = scheduler.nowMs();
    const dueAtMs = nowMs + scheduler.random() * withinMs;
    if (dueAtMs >= slot.dueAtMs) return;
    slot.dueAtMs = dueAtMs;
    slot.setAtMs = nowMs;
    this.#arm();
  }

  close(): void {
    this.#abort.abort();
    this.#cancelTimer?.();
  }

  #arm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (this.#abort.signal.aborted || this.#isAttempting || this.#slots.size === 0) return;
    const { scheduler } = this.#init;
    // Without a list: this runs after every attempt, over thousands of workloads.
    let nextAtMs = Infinity;
    for (const { dueAtMs } of this.#slots.values()) if (dueAtMs < nextAtMs) nextAtMs = dueAtMs;
    const waitMs = Math.min(longestWaitMs, Math.max(0, nextAtMs - scheduler.nowMs()));
    this.#cancelTimer = scheduler.after(waitMs, () => {
      this.#poll().catch((error: unknown) => this.#init.log.error({ err: error }, 'a renewal broke off'));
    });
  }

  async #poll(): Promise<void> {
    const nowMs = this.#init.scheduler.nowMs();
    const due: Key[] = [];
    for (const [key, { dueAtMs, setAtMs }] of this.#slots) {
      if (due.length === this.#init.maxBatch) break;
      if (dueAtMs <= nowMs + batchWindowMs || hasGoneBack(nowMs, setAtMs)) due.push(key);
    }
    if (due.length === 0) return this.#arm();
    this.#isAttempting = true;
    try {
      const outcomeOf = await this.#attempt(due);
      if (this.#abort.signal.aborted) return;
      for (const key of due) this.#settle(key, outcomeOf(key));
      this.#init.onSettled?.();
    } finally {
      this.#isAttempting = false;
      this.#arm();
    }
  }

  async #attempt(keys: readonly Key[]): Promise<(key: Key) => RenewalOutcome> {
    try {
      const outcomes = await this.#init.attempt(keys, this.#abort.signal);
      return (key) => outcomes.get(key) ?? { problem: 'the controller did not answer for it' };
    } catch (error) {
      const problem = describeError(error);
      return () => ({ problem });
    }
  }

  #settle(key: Key, outcome: RenewalOutcome): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    if ('problem' in outcome) return this.#fail(key, slot, outcome.problem);
    if (outcome.notAfterMs <= this.#init.scheduler.nowMs()) {
      return this.#fail(key, slot, "it had expired before it arrived: compare this host's clock with the controller's");
    }
    this.#slots.set(key, { validity: outcome, failures: 0, problem: null, ...this.#dueOf(outcome) });
  }

  #fail(key: Key, slot: Slot, problem: string): void {
    const { scheduler, maxRetryMs, onFailed } = this.#init;
    slot.failures++;
    slot.problem = problem;
    const nowMs = scheduler.nowMs();
    const leftMs = Math.max(0, (slot.validity?.notAfterMs ?? 0) - nowMs);
    // With 15 s left of a life of 30 s, an attempt every 30 s would come too late.
    const maxMs = leftMs === 0 ? maxRetryMs : Math.min(maxRetryMs, Math.max(firstRetryMs, leftMs / 8));
    const retryInMs = backoffMs({
      failures: slot.failures,
      firstMs: firstRetryMs,
      maxMs,
      random: scheduler.random(),
    });
    slot.setAtMs = nowMs;
    slot.dueAtMs = nowMs + retryInMs;
    onFailed(key, { problem, attempts: slot.failures, retryInMs: Math.round(retryInMs), leftMs });
  }

  /** Half of the life after it was obtained, moved by the jitter to either side. */
  #dueOf({ obtainedAtMs, notAfterMs }: Validity): Pick<Slot, 'dueAtMs' | 'setAtMs'> {
    const { scheduler, jitterPercent } = this.#init;
    const lifeMs = Math.max(0, notAfterMs - obtainedAtMs);
    const share = 0.5 + (jitterPercent / 100) * (2 * scheduler.random() - 1);
    return { dueAtMs: obtainedAtMs + lifeMs * share, setAtMs: obtainedAtMs };
  }
}

export type RenewalLoopInit<Key> = {
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** 0 to 40. */
  readonly jitterPercent: number;
  /** The longest wait between two attempts. */
  readonly maxRetryMs: number;
  /** The most keys that one attempt gets. */
  readonly maxBatch: number;
  /** Renews these keys. Rejecting fails all of them. The signal aborts when the loop is closed. */
  readonly attempt: (keys: readonly Key[], signal: AbortSignal) => Promise<ReadonlyMap<Key, RenewalOutcome>>;
  readonly onFailed: (key: Key, failure: RenewalFailure) => void;
  /** An attempt has ended and {@link RenewalLoop.problemOf} is up to date. */
  readonly onSettled?: () => void;
};
