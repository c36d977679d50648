import { setTimeout as delay } from 'node:timers/promises';
import { decodeEnrolmentNotice } from '../../../shared/wire/node-enrolment.js';
import type { EnrolmentFollower } from './enrolment-follower.js';

const defaultRetry = { firstMs: 1000, longestMs: 30_000 };

/**
 * Asks the controller for the list of pods that wait for this agent whenever a notice says that there is a newer one, until it
 * has that. A notice is not signed, so it decides about nothing but when to ask.
 */
export class EnrolmentList {
  readonly #init: EnrolmentListInit;
  #noticed = 0;
  #isAsking = false;

  constructor(init: EnrolmentListInit) {
    this.#init = init;
  }

  /** What is under the node's key. A controller of the version before has the list itself there. */
  onNotice(bytes: Uint8Array): void {
    const { enrolment, publicKeysPem } = this.#init;
    const notice = decodeEnrolmentNotice(bytes);
    if (notice === null) return enrolment.take(bytes, publicKeysPem());
    this.#noticed = notice.version;
    if (!this.#isAsking) void this.#ask();
  }

  get #isBehind(): boolean {
    return (this.#init.enrolment.current?.version ?? 0) < this.#noticed;
  }

  /** Never rejects. */
  async #ask(): Promise<void> {
    const { ask, enrolment, publicKeysPem, onProblem, signal, retry = defaultRetry } = this.#init;
    this.#isAsking = true;
    for (
      let waitMs = retry.firstMs;
      this.#isBehind && !signal.aborted;
      waitMs = Math.min(retry.longestMs, waitMs * 2)
    ) {
      try {
        const list = await ask();
        if (list !== null) enrolment.take(list, publicKeysPem());
      } catch (error) {
        if (!signal.aborted) onProblem(error);
      }
      if (this.#isBehind) await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
    this.#isAsking = false;
  }
}

type EnrolmentListInit = {
  readonly enrolment: Pick<EnrolmentFollower, 'take' | 'current'>;
  /** The list as it is sealed; null: the controller does not know it yet. Errors: those of a request. */
  readonly ask: () => Promise<Uint8Array | null>;
  readonly publicKeysPem: () => readonly string[];
  readonly onProblem: (error: unknown) => void;
  readonly signal: AbortSignal;
  /** For tests. */
  readonly retry?: { readonly firstMs: number; readonly longestMs: number };
};
