import type { Log } from '../../../shared/log.js';
import { type Scheduler, systemScheduler } from '../../thread/scheduler.js';

const saveDelayMs = 200;
/** A write that takes longer than this, as of a large registry, is followed by a pause. */
const cheapWriteMs = 50;
/** Expensive writes take at most this share of the time, unless the longest pause is shorter than that. */
const writeShare = 1 / 20;
const saveRetryMs = 10_000;

/** The longest pause after an expensive write, in milliseconds. */
export const longestPauseMs = {
  /** Rules, certificates and the like: after a crash while NATS is away, the agent enforces what is on disk. */
  rules: 1000,
  /** Workloads that are missing in it are refused until NATS is back. */
  registry: 2000,
};

/**
 * Writes a part of the last good state soon after it changed: within 200 ms, or, if the write before was an expensive one, when
 * a pause after its end is over. Changes meanwhile share one write. A full disk costs only the copy on disk: the agent
 * continues and retries every 10 s.
 */
export class StateSaver {
  readonly #write: () => Promise<void>;
  readonly #mayWrite: () => Promise<void>;
  readonly #longestPauseMs: number;
  readonly #log: Log;
  readonly #onFailure: () => void;
  readonly #scheduler: Scheduler;
  #cancelTimer: (() => void) | null = null;
  /** Something changed since the last write began, or that write failed. */
  #isStale = false;
  #problem: string | null = null;
  #saving: Promise<void> | null = null;
  #isClosed = false;
  #isAbandoned = false;
  /** By the scheduler's `elapsedMs`. */
  #pausedUntilMs = 0;

  constructor(init: {
    /** Collects the current state and writes it. */
    readonly write: () => Promise<void>;
    /** Resolves when this process may write: until then the state on disk is another process's. */
    readonly mayWrite?: () => Promise<void>;
    /** See {@link longestPauseMs}. */
    readonly longestPauseMs: number;
    readonly log: Log;
    readonly onFailure: () => void;
    readonly scheduler?: Scheduler;
  }) {
    this.#write = init.write;
    this.#mayWrite = init.mayWrite ?? (() => Promise.resolve());
    this.#longestPauseMs = init.longestPauseMs;
    this.#log = init.log;
    this.#onFailure = init.onFailure;
    this.#scheduler = init.scheduler ?? systemScheduler;
  }

  /** Why the newest state is not on disk; null: it is, or is about to be. */
  get problem(): string | null {
    return this.#problem;
  }

  schedule(): void {
    this.#isStale = true;
    this.#plan();
  }

  /** Another process writes from now on: waits for a running write, and writes nothing more. */
  async abandon(): Promise<void> {
    this.#isClosed = true;
    this.#isAbandoned = true;
    this.#stopTimer();
    await this.#saving;
  }

  /** Waits for a running write, then writes pending changes once, whether that succeeds or not. */
  async close(): Promise<void> {
    if (this.#isAbandoned) return;
    this.#isClosed = true;
    this.#stopTimer();
    await this.#saving;
    if (this.#isStale) await this.#save();
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #plan(): void {
    if (this.#isClosed || this.#cancelTimer !== null || this.#saving !== null) return;
    const delayMs = Math.max(saveDelayMs, this.#pausedUntilMs - this.#scheduler.elapsedMs());
    this.#cancelTimer = this.#scheduler.after(delayMs, () => {
      this.#cancelTimer = null;
      this.#saving = this.#save().finally(() => {
        this.#saving = null;
        if (this.#isStale) this.#plan();
      });
    });
  }

  async #save(): Promise<void> {
    let pauseMs = saveRetryMs;
    try {
      await this.#mayWrite();
      if (this.#isAbandoned) return;
      this.#isStale = false;
      const startedAt = this.#scheduler.elapsedMs();
      await this.#write();
      const tookMs = this.#scheduler.elapsedMs() - startedAt;
      pauseMs = Math.min(this.#longestPauseMs, Math.max(0, tookMs - cheapWriteMs) / writeShare);
      if (this.#problem !== null) this.#log.info('the last good state is on disk again');
      this.#problem = null;
    } catch (error) {
      this.#isStale = true;
      const problem = error instanceof Error ? error.message : String(error);
      this.#onFailure();
      if (this.#problem !== problem) {
        this.#log.error(
          { err: error },
          'the last good state could not be written to disk; the agent continues without it',
        );
      }
      this.#problem = problem;
    }
    this.#pausedUntilMs = this.#scheduler.elapsedMs() + pauseMs;
  }
}
