import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import type { NodeName } from '../../../shared/routing/names.js';
import { openNodeEnrolment, type NodeEnrolment } from '../../../shared/wire/node-enrolment.js';
import type { StateDirectory } from '../state/state-directory.js';
import { longestPauseMs, StateSaver } from '../state/state-saver.js';

type Held = { readonly enrolment: NodeEnrolment; readonly sealed: Uint8Array };

/** Keeps what the controller says of pods that are still to start on this node, also on disk. */
export class EnrolmentFollower {
  readonly #node: NodeName;
  readonly #log: Log;
  readonly #saver: StateSaver;
  readonly #listeners = new Set<() => void>();
  #held: Held | null = null;
  #lastRefused = '';

  constructor(init: {
    readonly node: NodeName;
    readonly directory: Pick<StateDirectory, 'enrolment'>;
    /** Until then the state on disk is another process's. */
    readonly inCharge: () => Promise<void>;
    readonly log: Log;
    readonly onWriteFailed: () => void;
  }) {
    this.#node = init.node;
    this.#log = init.log;
    this.#saver = new StateSaver({
      write: async () => {
        if (this.#held !== null)
          await init.directory.enrolment.write(Buffer.from(this.#held.sealed).toString('base64'));
      },
      mayWrite: init.inCharge,
      longestPauseMs: longestPauseMs.rules,
      log: init.log,
      onFailure: init.onWriteFailed,
    });
  }

  /** Null: no controller has ever said it, as one without a cluster does not. */
  get current(): NodeEnrolment | null {
    return this.#held?.enrolment ?? null;
  }

  /** Calls back with each change, until the returned function is called. */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  /** From disk. What is refused there is as if it were not there. */
  restore(sealed: Uint8Array, publicKeysPem: readonly string[]): void {
    this.#take(sealed, publicKeysPem);
  }

  /** From NATS. What no key (PEM) signed, and what is older than the present one, changes nothing. */
  take(sealed: Uint8Array, publicKeysPem: readonly string[]): void {
    if (this.#take(sealed, publicKeysPem)) this.#saver.schedule();
  }

  /** See `StateSaver`. */
  abandon(): Promise<void> {
    return this.#saver.abandon();
  }

  /** See `StateSaver`. */
  close(): Promise<void> {
    return this.#saver.close();
  }

  /** True: it is new. */
  #take(sealed: Uint8Array, publicKeysPem: readonly string[]): boolean {
    if (this.#held !== null && Buffer.compare(this.#held.sealed, sealed) === 0) return false;
    try {
      const enrolment = openNodeEnrolment({ node: this.#node, bytes: sealed, publicKeysPem });
      const present = this.#held?.enrolment.version ?? 0;
      if (enrolment.version <= present)
        throw new Error(`its version ${enrolment.version} is not newer than ${present}, which this agent has`);
      this.#held = { enrolment, sealed };
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastRefused)
        this.#log.error(
          { problem },
          'what is said of pods that wait for this agent is refused; the last good one stays',
        );
      this.#lastRefused = problem;
      return false;
    }
    this.#lastRefused = '';
    for (const each of this.#listeners) each();
    return true;
  }
}
