import type { SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import { describeCertificate } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../shared/pki/issued-certificate.js';
import { maxSignBatch, type SignRequest, type SignResponse } from '../../../shared/wire/requests.js';
import type { IdentityCertificate } from '../../dataplane/messages.js';
import type { Scheduler } from '../../thread/scheduler.js';
import { unfitAnswer, type AnswerAlarm } from './answer-alarm.js';
import { RenewalLoop, type RenewalOutcome, type Validity } from './renewal-loop.js';

export type WorkloadCertificate = IdentityCertificate & Validity;

const maxRetryMs = 30_000;

/**
 * Holds one valid certificate for each identity of this node's workloads, with a fresh P-256 key for each request.
 * {@link RenewalLoop} decides when to renew. A certificate stays in use until its successor arrives, even after it has
 * expired: the peers then refuse it for that reason. If one certificate of an answer is not what was requested, or the
 * roots in the answer do not verify it, the whole answer is refused. `close` stops the renewal.
 */
export class CertificateRotator {
  readonly #init: CertificateRotatorInit;
  readonly #renewals: RenewalLoop<SpiffeId>;
  /** By identity; null: not issued yet. */
  readonly #certificates = new Map<SpiffeId, WorkloadCertificate | null>();

  constructor(init: CertificateRotatorInit) {
    this.#init = init;
    this.#renewals = new RenewalLoop({
      scheduler: init.scheduler,
      log: init.log,
      jitterPercent: init.renewJitterPercent,
      maxRetryMs,
      maxBatch: maxSignBatch,
      attempt: (identities, signal) => this.#renew(identities, signal),
      onFailed: (identity, failure) => init.log.warn({ identity, ...failure }, 'certificate not issued'),
      onSettled: init.onChange,
    });
  }

  /** Takes over the certificates from disk. Call it before {@link setIdentities}. */
  restore(certificates: readonly WorkloadCertificate[]): void {
    for (const certificate of certificates) {
      this.#certificates.set(certificate.identity, certificate);
      this.#renewals.add(certificate.identity, certificate);
    }
  }

  /** The identities that need a certificate from now on. Certificates of other identities are dropped. */
  setIdentities(identities: ReadonlySet<SpiffeId>): void {
    let isChanged = false;
    for (const identity of this.#certificates.keys()) {
      if (identities.has(identity)) continue;
      this.#certificates.delete(identity);
      this.#renewals.delete(identity);
      isChanged = true;
    }
    for (const identity of identities) {
      if (this.#certificates.has(identity)) continue;
      this.#certificates.set(identity, null);
      this.#renewals.add(identity, null);
      isChanged = true;
    }
    if (isChanged) this.#init.onChange();
  }

  get certificates(): readonly WorkloadCertificate[] {
    return [...this.#certificates.values()].filter((certificate) => certificate !== null);
  }

  /** What the workers need of them. */
  forWorkers(): IdentityCertificate[] {
    return this.certificates.map(({ identity, chainPem, keyPem, notAfterMs }) => ({
      identity,
      chainPem,
      keyPem,
      notAfterMs,
    }));
  }

  /** For the admin endpoint; without keys. */
  dump(): object[] {
    return this.certificates.map(({ identity, notAfterMs, obtainedAtMs }) => ({
      identity,
      notAfter: new Date(notAfterMs).toISOString(),
      obtainedAt: new Date(obtainedAtMs).toISOString(),
    }));
  }

  certificateOf(identity: SpiffeId): WorkloadCertificate | null {
    return this.#certificates.get(identity) ?? null;
  }

  /** Why the identity has no certificate, or why its certificate could not be renewed; null: neither applies. */
  problemOf(identity: SpiffeId): string | null {
    const isMissing = this.#certificates.get(identity) === null;
    return this.#renewals.problemOf(identity) ?? (isMissing ? 'its certificate was not issued yet' : null);
  }

  /** Requests everything that failed again, because the controller can be reached again. */
  retryNow(): void {
    this.#renewals.retryNow();
  }

  /** Renews certificates of these identities within `withinMs`, because the roots of the mesh have changed. */
  renewSoon(identities: readonly SpiffeId[], withinMs: number): void {
    for (const identity of identities) this.#renewals.renewSoon(identity, withinMs);
  }

  close(): void {
    this.#renewals.close();
  }

  async #renew(identities: readonly SpiffeId[], signal: AbortSignal): Promise<ReadonlyMap<SpiffeId, RenewalOutcome>> {
    const requests = await Promise.all(
      identities.map(async (identity) => ({ identity, ...(await createCsr({ identity })) })),
    );
    const answer = await this.#init.sign({
      requests: requests.map(({ identity, csrPem }) => ({ identity, csrPem })),
    });
    signal.throwIfAborted();
    const results = new Map(answer.certificates.map((result) => [result.identity, result]));
    const obtainedAtMs = this.#init.scheduler.nowMs();
    const issued: WorkloadCertificate[] = [];
    const outcomes = new Map<SpiffeId, RenewalOutcome>();
    for (const { identity, privateKeyPem: keyPem } of requests) {
      const result = results.get(identity);
      if (result === undefined) continue;
      if ('error' in result) {
        outcomes.set(identity, { problem: describeRefusal(result.error) });
        continue;
      }
      const { chainPem } = result;
      const problem = problemOfIssued({ chainPem, keyPem, spiffeId: identity, rootsPem: answer.rootsPem });
      if (problem !== null) throw unfitAnswer({ ...this.#init, problem, of: { identity } });
      const { notAfterMs } = describeCertificate(chainPem);
      issued.push({ identity, chainPem, keyPem, notAfterMs, obtainedAtMs });
      outcomes.set(identity, { notAfterMs, obtainedAtMs });
    }
    if (issued.length > 0) this.#init.onRoots(answer.rootsPem);
    for (const certificate of issued) this.#accept(certificate);
    return outcomes;
  }

  /** The loop counts a certificate that has expired on arrival as a failure. */
  #accept(certificate: WorkloadCertificate): void {
    const { identity, notAfterMs, obtainedAtMs } = certificate;
    if (!this.#certificates.has(identity) || notAfterMs <= obtainedAtMs) return;
    this.#certificates.set(identity, certificate);
    this.#init.log.info({ identity, notAfter: new Date(notAfterMs).toISOString() }, 'certificate issued');
  }
}

export type CertificateRotatorInit = {
  /** Sends one request to the controller; rejects if there is no answer. */
  readonly sign: (request: SignRequest) => Promise<SignResponse>;
  readonly scheduler: Scheduler;
  /** 0 to 40. */
  readonly renewJitterPercent: number;
  readonly log: Log;
  /** The certificates, or the reason why one is missing, changed. */
  readonly onChange: () => void;
  /** The roots of the mesh, from an answer whose certificates they verify. */
  readonly onRoots: (rootsPem: string) => void;
  readonly onAnswerRefused: (kind: AnswerAlarm) => void;
};

function describeRefusal(error: { readonly message: string; readonly hint: string | null }): string {
  return error.hint === null ? error.message : `${error.message} (${error.hint})`;
}
