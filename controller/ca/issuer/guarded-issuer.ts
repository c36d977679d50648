import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError } from '../../../shared/errors.js';
import type { ExternalIssuer, Wanted } from './external-issuer.js';
import { isOutage, issuerCodes, issuerError, IssuerUnready, mayPass, type IssuerCode } from './issuer-error.js';
import { IssuerTurns } from './issuer-turns.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

/** What one request to the issuer came to: the label `outcome` of the metric. */
export const issuerOutcomes = ['signed', ...issuerCodes, 'OTHER'] as const;
export type IssuerOutcome = (typeof issuerOutcomes)[number];

const maxRunning = 16;
/** Of one node. */
const maxWaiting = 64;
/** An agent waits 10 s for its answer. */
const defaultDeadlineMs = 8000;
/** An issuer that takes longer than this is one that does not answer. */
const leastPatienceMs = 2000;
const attempts = 3;
const [firstRetryMs, firstPauseMs, longestPauseMs] = [250, 1000, 60_000];
/** Who asked waits for less than its deadline; a longer one is a pause for all. */
const longestWaitMs = 2000;

/**
 * Keeps an issuer and the controller from harming each other. A bounded number of requests is under way, nodes take turns, and
 * none waits longer than its deadline. What may pass by itself is tried three times. While the issuer is down, requests fail at
 * once with the reason, and one at a time finds out whether it is back, after 1 s at first and then after up to a minute. What an
 * issuer says about when to ask again (Retry-After) is respected where it is later.
 */
export class GuardedIssuer {
  readonly #issuer: ExternalIssuer;
  readonly #turns = new IssuerTurns({ maxRunning, maxWaiting });
  readonly #monotonicMs: () => number;
  readonly #random: () => number;
  readonly #onAsked: (outcome: IssuerOutcome, durationMs: number) => void;
  readonly #closed = new AbortController();
  #outage: { readonly error: unknown; readonly failures: number; readonly retryAtMs: number } | null = null;
  #isProbing = false;

  constructor(init: {
    readonly issuer: ExternalIssuer;
    readonly onAsked?: (outcome: IssuerOutcome, durationMs: number) => void;
    readonly monotonicMs?: () => number;
    readonly random?: () => number;
  }) {
    this.#issuer = init.issuer;
    this.#onAsked = init.onAsked ?? (() => undefined);
    this.#monotonicMs = init.monotonicMs ?? (() => performance.now());
    this.#random = init.random ?? Math.random;
  }

  get kind(): ExternalIssuer['kind'] {
    return this.#issuer.kind;
  }

  get place(): string {
    return this.#issuer.place;
  }

  /** Requests that have no answer yet. */
  get waiting(): number {
    return this.#turns.size;
  }

  /** `key`: on whose behalf; `signal`: who asks waits no longer. See {@link ExternalIssuer.sign}; also `ISSUER_FULL`. */
  async sign(wanted: Wanted, key: string, signal?: AbortSignal): Promise<string> {
    const until = AbortSignal.any([
      this.#closed.signal,
      timeoutSignal(defaultDeadlineMs),
      ...(signal === undefined ? [] : [signal]),
    ]);
    const signed = await this.#turns.run(key, () => this.#signInTurn(wanted, until));
    if (signed !== null) return signed;
    throw issuerError(
      'ISSUER_FULL',
      `more than ${maxWaiting} requests of this node wait for ${this.place}`,
      'see how long it takes to sign; agents ask again by themselves',
    );
  }

  maintain(): Promise<void> {
    return this.#issuer.maintain(this.#forHousekeeping());
  }

  authorities(): Promise<string | null> {
    return this.#issuer.authorities(this.#forHousekeeping());
  }

  close(): void {
    this.#closed.abort();
    this.#issuer.close();
  }

  #forHousekeeping(): AbortSignal {
    return AbortSignal.any([this.#closed.signal, timeoutSignal(defaultDeadlineMs)]);
  }

  async #signInTurn(wanted: Wanted, signal: AbortSignal): Promise<string> {
    if (signal.aborted) throw late(this.place);
    const outage = this.#outage;
    if (outage === null) return this.#try(wanted, signal, attempts);
    if (this.#isProbing || this.#monotonicMs() < outage.retryAtMs) throw outage.error;
    this.#isProbing = true;
    try {
      return await this.#try(wanted, signal, 1);
    } finally {
      this.#isProbing = false;
    }
  }

  async #try(wanted: Wanted, signal: AbortSignal, most: number): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const startedAt = this.#monotonicMs();
      try {
        const certificates = await this.#once(wanted, signal);
        this.#outage = null;
        return certificates;
      } catch (error) {
        const backoffMs = firstRetryMs * 2 ** (attempt - 1) * (0.5 + this.#random());
        const waitMs = Math.max(backoffMs, toldMs(error));
        if (mayPass(error) && attempt < most && waitMs <= longestWaitMs && !signal.aborted) {
          await delay(waitMs, undefined, { signal }).catch(() => undefined);
          if (!signal.aborted) continue;
        }
        // One whose turn came too late has learned nothing of the issuer.
        if (signal.aborted && this.#monotonicMs() - startedAt < leastPatienceMs) throw late(this.place);
        if (isOutage(error)) this.#pause(error);
        else this.#outage = null;
        throw error;
      }
    }
  }

  async #once(wanted: Wanted, signal: AbortSignal): Promise<string> {
    const startedAt = this.#monotonicMs();
    try {
      const certificates = await this.#issuer.sign(wanted, signal);
      this.#onAsked('signed', this.#monotonicMs() - startedAt);
      return certificates;
    } catch (error) {
      this.#onAsked(outcomeOf(error), this.#monotonicMs() - startedAt);
      throw error;
    }
  }

  /** Requests that were under way together are one failure. */
  #pause(error: unknown): void {
    const now = this.#monotonicMs();
    const before = this.#outage;
    if (before !== null && now < before.retryAtMs) return;
    const failures = (before?.failures ?? 0) + 1;
    const longMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failures - 1, 10));
    const pauseMs = Math.max(longMs * (0.75 + this.#random() / 2), toldMs(error));
    this.#outage = { error, failures, retryAtMs: now + pauseMs };
  }
}

function toldMs(error: unknown): number {
  return error instanceof IssuerUnready ? (error.retryAfterMs ?? 0) : 0;
}

function late(place: string): CulvertError {
  return issuerError(
    'ISSUER_FULL',
    `the turn of this request came too late for ${place} to sign in time`,
    'see how long it takes to sign; agents ask again by themselves',
  );
}

function outcomeOf(error: unknown): IssuerOutcome {
  const code = error instanceof CulvertError ? error.code : '';
  return issuerCodes.includes(code as IssuerCode) ? (code as IssuerCode) : 'OTHER';
}
