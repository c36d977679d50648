import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { isOutage } from './issuer-error.js';

/** For how long a request that the issuer refused is worth an alarm. */
const refusalCountsMs = 10 * 60_000;

export type IssuerProblem = { readonly text: string; readonly sinceMs: number };

/**
 * What is known to be wrong with an issuer: it is down, it refused a request a while ago, or something will keep it from signing.
 * One line of the log for each change, not one for each certificate.
 */
export class IssuerHealth {
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #place: string;
  #outage: string | null = null;
  #refusal: { readonly text: string; readonly subject: string; readonly atMs: number } | null = null;
  #upkeep: string | null = null;
  #problem: IssuerProblem | null = null;

  constructor(init: { readonly place: string; readonly log: Log; readonly nowMs: () => number }) {
    this.#place = init.place;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
  }

  /** Null: nothing is known to be wrong. */
  get problem(): IssuerProblem | null {
    return this.#problem;
  }

  get isDown(): boolean {
    return this.#outage !== null;
  }

  /** `subject`: that of the certificate. */
  noteSigned(subject: string): void {
    this.#outage = null;
    if (this.#refusal?.subject === subject) this.#refusal = null;
    this.#settle();
  }

  noteFailed(error: unknown, subject: string): void {
    const text = describeError(error);
    if (isOutage(error)) this.#outage = text;
    else this.#refusal = { text, subject, atMs: this.#nowMs() };
    this.#settle();
  }

  /** What a look at it found; null: nothing. */
  noteUpkeep(error: unknown): void {
    this.#upkeep = error === null ? null : describeError(error);
    this.#settle();
  }

  #settle(): void {
    const now = this.#nowMs();
    const refusal = this.#refusal;
    if (refusal !== null && Math.abs(now - refusal.atMs) >= refusalCountsMs) this.#refusal = null;
    const text = this.#outage ?? this.#refusal?.text ?? this.#upkeep;
    const before = this.#problem;
    if (text === (before?.text ?? null)) return;
    this.#problem = text === null ? null : { text, sinceMs: before?.sinceMs ?? now };
    if (text === null) this.#log.info({ issuer: this.#place }, 'nothing is wrong with the issuer any more');
    else {
      this.#log.error(
        { issuer: this.#place, problem: text },
        'the issuer has a problem; certificates that are not renewed count until they expire',
      );
    }
  }
}
