import { isDeepStrictEqual } from 'node:util';
import { CulvertError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../shared/pki/issued-certificate.js';
import { nodeSpiffeId } from '../../../shared/identity.js';
import { isSigningPublicKey } from '../../../shared/pki/signing-key.js';
import type { RenewRequest, RenewResponse } from '../../../shared/wire/requests.js';
import type { Scheduler } from '../../thread/scheduler.js';
import { unfitAnswer, type AnswerAlarm } from './answer-alarm.js';
import { isOfSameMesh, type NodeCredentials } from './node-credentials.js';
import { RenewalLoop, type RenewalOutcome } from './renewal-loop.js';

const maxRetryMs = 60_000;

/**
 * The only holder of this host's credentials. Renews the node certificate and the NATS credential together, with a fresh
 * key for the certificate; accepts new roots; and keeps the copy on disk current. Credentials change as a whole or not
 * at all. A failing disk costs the copy, not the membership. `close` stops the renewal.
 */
export class CredentialsRotator {
  readonly #init: CredentialsRotatorInit;
  readonly #renewal: RenewalLoop<'node'>;
  #current: NodeCredentials;

  constructor(init: CredentialsRotatorInit) {
    this.#init = init;
    this.#current = init.credentials;
    this.#renewal = new RenewalLoop({
      scheduler: init.scheduler,
      log: init.log,
      jitterPercent: init.renewJitterPercent,
      maxRetryMs,
      maxBatch: 1,
      attempt: (_, signal) => this.#renew(signal),
      onFailed: (_, failure) => init.log.warn(failure, 'node credentials not renewed'),
    });
  }

  get current(): NodeCredentials {
    return this.#current;
  }

  /** From now on credentials are renewed in time. */
  start(): void {
    this.#renewal.add('node', this.#current);
  }

  /** Retries a failed renewal, because the controller can be reached again. */
  retryNow(): void {
    this.#renewal.retryNow();
  }

  /** Renews within `withinMs`, because the roots of the mesh have changed. */
  renewSoon(withinMs: number): void {
    this.#renewal.renewSoon('node', withinMs);
  }

  /** Why the last renewal failed; null: it did not. */
  get problem(): string | null {
    return this.#renewal.problemOf('node');
  }

  /**
   * Credentials that `culvert-agent join` obtained for this node while the agent runs. They are on disk already. Returns false
   * if the NATS servers in them are others, which only a start uses. Throws CulvertError `CREDENTIALS_FOREIGN`.
   */
  adopt(joined: NodeCredentials): boolean {
    const { node, trustDomain, natsServers, natsServerName, rootsPem } = this.#current;
    if (!isOfSameMesh(joined, this.#current)) {
      throw new CulvertError({
        code: 'CREDENTIALS_FOREIGN',
        message: 'the credentials on disk are of another mesh: its controller signs with other keys',
        hint: 'restart the agent',
      });
    }
    if (joined.node !== node || joined.trustDomain !== trustDomain) {
      throw new CulvertError({
        code: 'CREDENTIALS_FOREIGN',
        message: `the credentials on disk are of node "${joined.node}" in ${joined.trustDomain}, and this agent is node "${node}" in ${trustDomain}`,
        hint: 'restart the agent',
      });
    }
    this.#current = joined;
    this.#renewal.add('node', joined);
    this.#init.log.warn({ notAfter: new Date(joined.notAfterMs).toISOString() }, 'the node joined again');
    if (joined.rootsPem !== rootsPem) this.#init.onNewRoots();
    return joined.natsServerName === natsServerName && isDeepStrictEqual(joined.natsServers, natsServers);
  }

  /** Roots that the controller signed, or that came with workload certificates and verify them. */
  takeRoots(rootsPem: string): void {
    if (rootsPem === this.#current.rootsPem) return;
    this.#init.log.warn('the roots of the mesh have changed');
    this.#take({ ...this.#current, rootsPem });
  }

  close(): void {
    this.#renewal.close();
  }

  async #renew(signal: AbortSignal): Promise<ReadonlyMap<'node', RenewalOutcome>> {
    const { node, trustDomain, natsUserPublicKey } = this.#current;
    const identity = nodeSpiffeId(trustDomain, node);
    const { csrPem, privateKeyPem: nodeKeyPem } = await createCsr({ identity });
    const answer = await this.#init.renew({ csrPem, natsUserPublicKey, namesConsumers: true });
    signal.throwIfAborted();
    const problem = this.#problemOf(answer, nodeKeyPem);
    if (problem !== null) throw unfitAnswer({ ...this.#init, problem, of: { node } });
    const { nodeCertificatePem, natsJwt, consumerPrefix, rootsPem, signingPublicKeys, notAfterMs } = answer;
    const validity = { notAfterMs, obtainedAtMs: this.#init.scheduler.nowMs() };
    this.#init.log.info({ notAfter: new Date(notAfterMs).toISOString() }, 'node credentials renewed');
    const renewed = { nodeKeyPem, nodeCertificatePem, natsJwt, rootsPem, signingPublicKeys, ...validity };
    // It belongs to the JWT: an answer without one ends the old one.
    const { consumerPrefix: _old, ...others } = this.#current;
    this.#take({ ...others, ...renewed, ...(consumerPrefix === undefined ? {} : { consumerPrefix }) });
    return new Map([['node', validity]]);
  }

  /** The controller signed the answer. It must also be consistent, or this host would lock itself out. */
  #problemOf(answer: RenewResponse, keyPem: string): string | null {
    const { node, trustDomain } = this.#current;
    if (!answer.signingPublicKeys.every((key) => isSigningPublicKey(key))) return 'a signing key in it is not Ed25519';
    return problemOfIssued({
      chainPem: answer.nodeCertificatePem,
      keyPem,
      spiffeId: nodeSpiffeId(trustDomain, node),
      rootsPem: answer.rootsPem,
    });
  }

  #take(credentials: NodeCredentials): void {
    const hasNewRoots = credentials.rootsPem !== this.#current.rootsPem;
    this.#current = credentials;
    if (hasNewRoots) this.#init.onNewRoots();
    this.#init.write(credentials).catch((error: unknown) => {
      this.#init.onWriteFailed();
      this.#init.log.error({ err: error }, 'the renewed credentials could not be written to disk');
    });
  }
}

export type CredentialsRotatorInit = {
  readonly credentials: NodeCredentials;
  readonly renew: (request: RenewRequest) => Promise<RenewResponse>;
  readonly write: (credentials: NodeCredentials) => Promise<void>;
  readonly scheduler: Scheduler;
  /** 0 to 40. */
  readonly renewJitterPercent: number;
  readonly log: Log;
  readonly onAnswerRefused: (kind: AnswerAlarm) => void;
  readonly onWriteFailed: () => void;
  /** {@link CredentialsRotator.current} has other roots than before. */
  readonly onNewRoots: () => void;
};
