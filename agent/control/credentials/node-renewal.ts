import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../shared/pki/issued-certificate.js';
import { nodeSpiffeId } from '../../../shared/pki/node-identity.js';
import { isSigningPublicKey } from '../../../shared/pki/signing-key.js';
import type { RenewRequest, RenewResponse } from '../../../shared/wire/requests.js';
import type { AnswerAlarm } from './answer-alarm.js';
import type { NodeCredentials } from './node-credentials.js';
import { backoffMs, hasGoneBack, longestWaitMs, type Scheduler } from '../../thread/scheduler.js';

const firstRetryMs = 1000;
const maxRetryMs = 60_000;

/**
 * Renews the node's certificate and NATS credential together at half of their life ± jitter, with a fresh key for the
 * certificate; looks at the clock every minute. Retries with backoff until it succeeds or is closed. Credentials change
 * as a whole or not at all.
 */
export class NodeRenewal {
  readonly #renew: (request: RenewRequest) => Promise<RenewResponse>;
  readonly #scheduler: Scheduler;
  readonly #jitter: number;
  readonly #log: Log;
  readonly #onRenewed: (credentials: NodeCredentials) => void;
  readonly #onAnswerRefused: (kind: AnswerAlarm) => void;
  #credentials: NodeCredentials;
  #dueAtMs = 0;
  #isAttempting = false;
  #failures = 0;
  #cancelTimer: (() => void) | null = null;
  #isClosed = false;

  constructor(init: {
    readonly credentials: NodeCredentials;
    readonly renew: (request: RenewRequest) => Promise<RenewResponse>;
    readonly scheduler: Scheduler;
    /** 0 to 40. */
    readonly renewJitterPercent: number;
    readonly log: Log;
    /** To be stored, and used for the next connection to NATS. */
    readonly onRenewed: (credentials: NodeCredentials) => void;
    readonly onAnswerRefused: (kind: AnswerAlarm) => void;
  }) {
    this.#credentials = init.credentials;
    this.#renew = init.renew;
    this.#scheduler = init.scheduler;
    this.#jitter = init.renewJitterPercent / 100;
    this.#log = init.log;
    this.#onRenewed = init.onRenewed;
    this.#onAnswerRefused = init.onAnswerRefused;
  }

  start(): void {
    const { obtainedAtMs, notAfterMs } = this.#credentials;
    const lifeMs = Math.max(0, notAfterMs - obtainedAtMs);
    this.#dueAtMs = obtainedAtMs + lifeMs * (0.5 + this.#jitter * (2 * this.#scheduler.random() - 1));
    this.#arm();
  }

  /** The stored credentials changed in another way (new roots): the next renewal builds on them. */
  replace(credentials: NodeCredentials): void {
    this.#credentials = credentials;
  }

  /** Tries at once when the last attempt failed: the controller can be reached again. */
  retryNow(): void {
    if (this.#failures > 0) this.#retryIn(0);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer?.();
  }

  #retryIn(delayMs: number): void {
    this.#dueAtMs = this.#scheduler.nowMs() + delayMs;
    this.#arm();
  }

  #arm(): void {
    this.#cancelTimer?.();
    if (this.#isClosed) return;
    const waitMs = Math.min(longestWaitMs, Math.max(0, this.#dueAtMs - this.#scheduler.nowMs()));
    this.#cancelTimer = this.#scheduler.after(waitMs, () => this.#poll());
  }

  #poll(): void {
    if (this.#isAttempting) return;
    const nowMs = this.#scheduler.nowMs();
    const isDue =
      nowMs >= this.#dueAtMs || (this.#failures === 0 && hasGoneBack(nowMs, this.#credentials.obtainedAtMs));
    if (isDue) void this.#attempt();
    else this.#arm();
  }

  /** The controller signed the answer; it must also hold together, or this host would lock itself out. */
  #assertFits(answer: RenewResponse, keyPem: string): void {
    const { node, trustDomain } = this.#credentials;
    const problem = answer.signingPublicKeys.every((key) => isSigningPublicKey(key))
      ? problemOfIssued({
          chainPem: answer.nodeCertificatePem,
          keyPem,
          spiffeId: nodeSpiffeId(trustDomain, node),
          rootsPem: answer.rootsPem,
        })
      : 'a signing key in it is no Ed25519 key';
    if (problem === null) return;
    this.#onAnswerRefused('unfit');
    this.#log.error({ alarm: 'unfit', problem }, 'new node credentials refused; those held stay in use');
    throw new CulvertError({
      code: 'ANSWER_UNFIT',
      message: `the controller's answer was refused: ${problem}`,
      hint: 'look at the log of the controller, and whether its CA files belong together',
    });
  }

  async #attempt(): Promise<void> {
    this.#isAttempting = true;
    try {
      const { csrPem, privateKeyPem } = await createCsr({ commonName: this.#credentials.node });
      const answer = await this.#renew({ csrPem, natsUserPublicKey: this.#credentials.natsUserPublicKey });
      if (this.#isClosed) return;
      this.#assertFits(answer, privateKeyPem);
      this.#failures = 0;
      this.#credentials = {
        ...this.#credentials,
        nodeKeyPem: privateKeyPem,
        nodeCertificatePem: answer.nodeCertificatePem,
        natsJwt: answer.natsJwt,
        rootsPem: answer.rootsPem,
        signingPublicKeys: answer.signingPublicKeys,
        notAfterMs: answer.notAfterMs,
        obtainedAtMs: this.#scheduler.nowMs(),
      };
      this.#log.info({ notAfter: new Date(answer.notAfterMs).toISOString() }, 'node credentials renewed');
      this.#onRenewed(this.#credentials);
      this.start();
    } catch (error) {
      this.#failures++;
      const retryInMs = backoffMs({
        failures: this.#failures,
        firstMs: firstRetryMs,
        maxMs: maxRetryMs,
        random: this.#scheduler.random(),
      });
      this.#log.warn(
        { problem: describeError(error), attempts: this.#failures, retryInMs: Math.round(retryInMs) },
        'node credentials not renewed',
      );
      this.#retryIn(retryInMs);
    } finally {
      this.#isAttempting = false;
    }
  }
}
