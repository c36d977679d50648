import { describeError } from '../../../shared/errors.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import { describeCertificate } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../shared/pki/issued-certificate.js';
import { maxSignBatch, type SignRequest, type SignResponse } from '../../../shared/wire/requests.js';
import type { IdentityCertificate } from '../../dataplane/messages.js';
import type { AnswerAlarm } from './answer-alarm.js';
import { backoffMs, hasGoneBack, longestWaitMs, type Scheduler } from '../../thread/scheduler.js';

/** `obtainedAtMs`: by the agent's clock; half of the life counts from here, because NotBefore is set back in time. */
export type WorkloadCertificate = IdentityCertificate & { readonly obtainedAtMs: number };

type Slot = {
  certificate: WorkloadCertificate | null;
  failures: number;
  dueAtMs: number;
  problem: string | null;
};

/** Certificates that are due within this time of each other share one request. */
const batchWindowMs = 200;
const firstRetryMs = 1000;
const maxRetryMs = 30_000;

/**
 * Keeps one valid certificate for each identity of this node's workloads: a fresh P-256 key for each request, renewal
 * at half of its life ± jitter, retries with backoff that grow shorter as the end comes nearer. When the host's clock was
 * set, or the host slept, that is noticed within a minute. A certificate stays
 * in use until a newer one is here, also when it has expired: what then is refused is refused for that reason. An
 * answer in which one certificate is not what was asked for, or not under the roots beside it, is refused as a whole.
 * One request is under way at a time. Owns its timer; `close` ends it.
 */
export class CertificateRotator {
  readonly #sign: (request: SignRequest) => Promise<SignResponse>;
  readonly #scheduler: Scheduler;
  readonly #jitter: number;
  readonly #log: Log;
  readonly #onChange: () => void;
  readonly #onRoots: (rootsPem: string) => void;
  readonly #onAnswerRefused: (kind: AnswerAlarm) => void;
  readonly #slots = new Map<SpiffeId, Slot>();
  #cancelTimer: (() => void) | null = null;
  #isAsking = false;
  #isClosed = false;

  constructor(init: {
    /** Sends one request to the controller; rejects when there is no answer. */
    readonly sign: (request: SignRequest) => Promise<SignResponse>;
    readonly scheduler: Scheduler;
    /** 0 to 40. */
    readonly renewJitterPercent: number;
    readonly log: Log;
    /** The certificates, or the reason why one is missing, changed. */
    readonly onChange: () => void;
    /** The roots of the mesh, as an answer brought them that has certificates under them. */
    readonly onRoots: (rootsPem: string) => void;
    readonly onAnswerRefused: (kind: AnswerAlarm) => void;
  }) {
    this.#sign = init.sign;
    this.#scheduler = init.scheduler;
    this.#jitter = init.renewJitterPercent / 100;
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#onRoots = init.onRoots;
    this.#onAnswerRefused = init.onAnswerRefused;
  }

  /** Takes over what was on disk. Call it before {@link setIdentities}. */
  restore(certificates: readonly WorkloadCertificate[]): void {
    for (const certificate of certificates) {
      const dueAtMs = this.#renewalTime(certificate);
      this.#slots.set(certificate.identity, { certificate, failures: 0, dueAtMs, problem: null });
    }
  }

  /** The identities that need a certificate from now on; those of others are dropped. */
  setIdentities(identities: ReadonlySet<SpiffeId>): void {
    let isChanged = false;
    for (const identity of this.#slots.keys()) {
      if (!identities.has(identity)) isChanged = this.#slots.delete(identity) || isChanged;
    }
    for (const identity of identities) {
      if (this.#slots.has(identity)) continue;
      this.#slots.set(identity, {
        certificate: null,
        failures: 0,
        dueAtMs: this.#scheduler.nowMs(),
        problem: 'its certificate was not issued yet',
      });
      isChanged = true;
    }
    if (isChanged) this.#onChange();
    this.#arm();
  }

  get certificates(): readonly WorkloadCertificate[] {
    return [...this.#slots.values()].flatMap((slot) => slot.certificate ?? []);
  }

  certificateOf(identity: SpiffeId): WorkloadCertificate | null {
    return this.#slots.get(identity)?.certificate ?? null;
  }

  /** Why the identity has no certificate, or why the one it has could not be renewed; null when all is well. */
  problemOf(identity: SpiffeId): string | null {
    return this.#slots.get(identity)?.problem ?? null;
  }

  /** Asks at once for everything that failed: the controller can be reached again. */
  retryNow(): void {
    const now = this.#scheduler.nowMs();
    for (const slot of this.#slots.values()) if (slot.failures > 0) slot.dueAtMs = Math.min(slot.dueAtMs, now);
    this.#arm();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer?.();
  }

  #arm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (this.#isClosed || this.#isAsking || this.#slots.size === 0) return;
    const next = Math.min(...[...this.#slots.values()].map((slot) => slot.dueAtMs));
    const waitMs = Math.min(longestWaitMs, Math.max(0, next - this.#scheduler.nowMs()));
    this.#cancelTimer = this.#scheduler.after(waitMs, () => {
      this.#ask().catch((error: unknown) => this.#log.error({ err: error }, 'certificate renewal failed'));
    });
  }

  async #ask(): Promise<void> {
    if (this.#isAsking || this.#isClosed) return;
    this.#isAsking = true;
    try {
      const nowMs = this.#scheduler.nowMs();
      const isDue = ({ dueAtMs, failures, certificate }: Slot): boolean =>
        dueAtMs <= nowMs + batchWindowMs ||
        (failures === 0 && certificate !== null && hasGoneBack(nowMs, certificate.obtainedAtMs));
      const due = [...this.#slots].filter(([, slot]) => isDue(slot)).slice(0, maxSignBatch);
      if (due.length > 0) await this.#renew(due.map(([identity]) => identity));
    } finally {
      this.#isAsking = false;
      this.#arm();
    }
  }

  async #renew(identities: readonly SpiffeId[]): Promise<void> {
    const keys = new Map<SpiffeId, string>();
    let response: SignResponse;
    try {
      const requests = await Promise.all(
        identities.map(async (identity) => {
          const { csrPem, privateKeyPem } = await createCsr({ identity });
          keys.set(identity, privateKeyPem);
          return { identity, csrPem };
        }),
      );
      response = await this.#sign({ requests });
    } catch (error) {
      return this.#failAll(identities, describeError(error));
    }
    const results = new Map(response.certificates.map((result) => [result.identity, result]));
    const issued = identities.flatMap((identity) => {
      const result = results.get(identity);
      return result !== undefined && 'chainPem' in result ? [{ ...result, keyPem: keys.get(identity) ?? '' }] : [];
    });
    for (const { identity, chainPem, keyPem } of issued) {
      const problem = problemOfIssued({ chainPem, keyPem, spiffeId: identity, rootsPem: response.rootsPem });
      if (problem !== null) return this.#refuseAnswer(identities, identity, problem);
    }
    if (issued.length > 0) this.#onRoots(response.rootsPem);
    for (const { identity, keyPem, chainPem } of issued) this.#accept(identity, keyPem, chainPem);
    for (const identity of identities) {
      const result = results.get(identity);
      if (result === undefined) this.#fail(identity, 'the controller did not answer for it');
      else if ('error' in result) this.#fail(identity, describeRefusal(result.error));
    }
    this.#onChange();
  }

  #refuseAnswer(identities: readonly SpiffeId[], identity: SpiffeId, problem: string): void {
    this.#onAnswerRefused('unfit');
    this.#log.error({ alarm: 'unfit', identity, problem }, 'certificates refused; those held stay in use');
    this.#failAll(identities, `the controller's answer was refused: ${problem}`);
  }

  #failAll(identities: readonly SpiffeId[], problem: string): void {
    for (const identity of identities) this.#fail(identity, problem);
    this.#onChange();
  }

  #accept(identity: SpiffeId, keyPem: string, chainPem: string): void {
    const slot = this.#slots.get(identity);
    if (slot === undefined) return;
    const nowMs = this.#scheduler.nowMs();
    const { notAfterMs } = describeCertificate(chainPem);
    if (notAfterMs <= nowMs) {
      return this.#fail(identity, "it had expired before it arrived: compare this host's clock with the controller's");
    }
    slot.certificate = { identity, chainPem, keyPem, notAfterMs, obtainedAtMs: nowMs };
    slot.failures = 0;
    slot.problem = null;
    slot.dueAtMs = this.#renewalTime(slot.certificate);
    this.#log.info({ identity, notAfter: new Date(notAfterMs).toISOString() }, 'certificate issued');
  }

  #fail(identity: SpiffeId, problem: string): void {
    const slot = this.#slots.get(identity);
    if (slot === undefined) return;
    slot.failures++;
    slot.problem = problem;
    const nowMs = this.#scheduler.nowMs();
    const leftMs = Math.max(0, (slot.certificate?.notAfterMs ?? 0) - nowMs);
    // With half of a 30 s life left, one attempt each 30 s would be one attempt too few.
    const maxMs = leftMs === 0 ? maxRetryMs : Math.min(maxRetryMs, Math.max(firstRetryMs, leftMs / 8));
    slot.dueAtMs =
      nowMs + backoffMs({ failures: slot.failures, firstMs: firstRetryMs, maxMs, random: this.#scheduler.random() });
    this.#log.warn(
      { identity, problem, attempts: slot.failures, retryInMs: Math.round(slot.dueAtMs - nowMs), leftMs },
      'certificate not issued',
    );
  }

  /** Half of the life after it was obtained, moved by the jitter to either side. */
  #renewalTime(certificate: WorkloadCertificate): number {
    const lifeMs = Math.max(0, certificate.notAfterMs - certificate.obtainedAtMs);
    return certificate.obtainedAtMs + lifeMs * (0.5 + this.#jitter * (2 * this.#scheduler.random() - 1));
  }
}

function describeRefusal(error: { readonly message: string; readonly hint: string | null }): string {
  return error.hint === null ? error.message : `${error.message} (${error.hint})`;
}
