import { describeError } from '../../../shared/errors.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import { joinOnce, type JoinAttemptInit } from './membership.js';

const checkEveryMs = 60_000;

/**
 * Joins again when the credentials of this node have expired, as after a time off that is longer than they are valid:
 * nothing that is signed with them counts then, also not a renewal. Only a token of a service account works again and again;
 * where the settings name none, a person has to join the node. The agent serves from its last good state meanwhile.
 */
export class RejoinExpired implements Disposable {
  readonly #init: RejoinInit;
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #isJoining = false;
  #lastProblem = '';

  constructor(init: RejoinInit) {
    this.#init = init;
    void init.inCharge.then(() => this.#check()).catch(() => undefined);
    this.#timer = setInterval(() => void this.#check(), init.checkEveryMs ?? checkEveryMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  /** Never rejects. */
  async #check(): Promise<void> {
    const { credentials, inCharge, join, log, onJoined } = this.#init;
    const { tokenFile, controllerCaFile, controllerUrl } = join.settings;
    if (tokenFile === null || controllerCaFile === null || controllerUrl === null) return;
    if (this.#isJoining || credentials().notAfterMs > Date.now()) return;
    this.#isJoining = true;
    try {
      // The credentials on disk are another process's before.
      await inCharge;
      await joinOnce({ ...join, log, signal: this.#abort.signal });
      await onJoined();
      this.#lastProblem = '';
    } catch (error) {
      const problem = describeError(error);
      if (!this.#abort.signal.aborted && problem !== this.#lastProblem)
        log.error({ err: error }, 'the credentials of this node have expired, and it could not join again; retrying');
      this.#lastProblem = problem;
    } finally {
      this.#isJoining = false;
    }
  }
}

type RejoinInit = {
  readonly join: Pick<JoinAttemptInit, 'settings' | 'directory' | 'version'>;
  /** Those in use. */
  readonly credentials: () => Pick<NodeCredentials, 'notAfterMs'>;
  /** When no other agent manages this host any more. */
  readonly inCharge: Promise<void>;
  /** New credentials are on disk. */
  readonly onJoined: () => Promise<unknown>;
  readonly log: JoinAttemptInit['log'];
  /** For tests. */
  readonly checkEveryMs?: number;
};
