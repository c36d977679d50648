import type { Log } from '../../../shared/log.js';
import type { RenewRequest, RenewResponse } from '../../../shared/wire/requests.js';
import type { AnswerAlarm } from './answer-alarm.js';
import type { NodeCredentials } from './node-credentials.js';
import { NodeRenewal } from './node-renewal.js';
import type { Scheduler } from '../../thread/scheduler.js';

/**
 * The one holder of this host's credentials: has them renewed, takes new roots in, and keeps the copy on disk at what is
 * in use. A disk that fails costs the copy, not the membership. Owns the renewal; `close` ends it.
 */
export class CredentialsRotator {
  readonly #log: Log;
  readonly #write: (credentials: NodeCredentials) => Promise<void>;
  readonly #onWriteFailed: () => void;
  readonly #onNewRoots: () => void;
  readonly #renewal: NodeRenewal;
  #current: NodeCredentials;

  constructor(init: {
    readonly credentials: NodeCredentials;
    readonly renew: (request: RenewRequest) => Promise<RenewResponse>;
    readonly write: (credentials: NodeCredentials) => Promise<void>;
    readonly scheduler: Scheduler;
    /** 0 to 40. */
    readonly renewJitterPercent: number;
    readonly log: Log;
    readonly onAnswerRefused: (kind: AnswerAlarm) => void;
    readonly onWriteFailed: () => void;
    /** {@link current} has other roots than before. */
    readonly onNewRoots: () => void;
  }) {
    const { credentials, renew, scheduler, renewJitterPercent, log, onAnswerRefused } = init;
    this.#current = credentials;
    this.#log = log;
    this.#write = init.write;
    this.#onWriteFailed = init.onWriteFailed;
    this.#onNewRoots = init.onNewRoots;
    const onRenewed = (renewed: NodeCredentials): void => this.#take(renewed);
    this.#renewal = new NodeRenewal({
      credentials,
      renew,
      scheduler,
      renewJitterPercent,
      log,
      onAnswerRefused,
      onRenewed,
    });
  }

  get current(): NodeCredentials {
    return this.#current;
  }

  /** Begins to renew in time. */
  start(): void {
    this.#renewal.start();
  }

  /** The controller can be reached again. */
  retryNow(): void {
    this.#renewal.retryNow();
  }

  /** Roots that came with workload certificates under them. */
  takeRoots(rootsPem: string): void {
    if (rootsPem === this.#current.rootsPem) return;
    this.#log.warn('the roots of the mesh have changed');
    this.#take({ ...this.#current, rootsPem });
  }

  close(): void {
    this.#renewal.close();
  }

  #take(credentials: NodeCredentials): void {
    const hasNewRoots = credentials.rootsPem !== this.#current.rootsPem;
    this.#current = credentials;
    this.#renewal.replace(credentials);
    if (hasNewRoots) this.#onNewRoots();
    this.#write(credentials).catch((error: unknown) => {
      this.#onWriteFailed();
      this.#log.error({ err: error }, 'the renewed credentials are not on disk');
    });
  }
}
