import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { CulvertError } from '../../../shared/errors.js';
import type { CertificateAsk } from './certificate-ask.js';
import { outcomeOf, requestSchema, type RequestOutcome } from './certificate-request-status.js';
import type { ExternalIssuer, Wanted } from './external-issuer.js';
import { issuerError } from './issuer-error.js';
import { leafUsages } from './leaf-profile.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

/** Between two looks at a request: short first, because most are signed at once, and never a burden for the API. */
const [firstPollMs, longestPollMs] = [100, 1000];
const deleteTimeoutMs = 3000;
/** What a controller that was killed left is removed after this time. */
const leftAfterMs = 10 * 60_000;
const sweepEveryMs = 60 * 60_000;
const maxSwept = 100;

const listSchema = z.object({
  items: z
    .array(z.object({ metadata: z.object({ name: z.string().min(1), creationTimestamp: z.string() }) }))
    .max(maxSwept),
});

/**
 * cert-manager, through the Kubernetes API: a CertificateRequest is created, looked at until it is signed, and deleted. It
 * approves nothing: an approver of the cluster does. The issuer signs the names that the request has, so a request with other
 * names than those wanted never gets there.
 */
export class CertManagerIssuer implements ExternalIssuer {
  readonly kind = 'cert-manager';
  readonly place: string;
  readonly #ask: CertificateAsk;
  readonly #issuer: { readonly kind: string; readonly name: string; readonly group: string };
  readonly #labels: Readonly<Record<string, string>>;
  readonly #nowMs: () => number;
  #sweptAtMs = Number.NEGATIVE_INFINITY;

  constructor(init: {
    readonly place: string;
    readonly ask: CertificateAsk;
    readonly issuer: { readonly kind: string; readonly name: string; readonly group: string };
    readonly trustDomain: string;
    readonly nowMs: () => number;
  }) {
    this.place = init.place;
    this.#ask = init.ask;
    this.#issuer = init.issuer;
    // A value of a label has 63 characters at most.
    this.#labels = { 'culvert.dev/trust-domain': init.trustDomain.slice(0, 63).replace(/[^a-z0-9]+$/i, '') };
    this.#nowMs = init.nowMs;
  }

  async sign(wanted: Wanted, signal: AbortSignal): Promise<string> {
    const created = requestSchema.safeParse(await this.#ask.create(this.#request(wanted), signal));
    if (!created.success) throw unreadable();
    const { name } = created.data.metadata;
    try {
      return await this.#signed(name, outcomeOf(created.data), signal);
    } finally {
      // Also when the wait was cut short: it must not stay in the cluster.
      await this.#ask.remove(name, timeoutSignal(deleteTimeoutMs)).catch(() => undefined);
    }
  }

  async maintain(signal: AbortSignal): Promise<void> {
    const now = this.#nowMs();
    if (now - this.#sweptAtMs < sweepEveryMs && now >= this.#sweptAtMs) return;
    const selector = Object.entries(this.#labels).map(([key, value]) => `${key}=${value}`);
    const list = listSchema.safeParse(await this.#ask.list(selector.join(','), maxSwept, signal));
    if (!list.success) throw unreadable();
    for (const { metadata } of list.data.items) {
      if (Date.parse(metadata.creationTimestamp) < now - leftAfterMs) await this.#ask.remove(metadata.name, signal);
    }
    this.#sweptAtMs = now;
  }

  async authorities(): Promise<null> {
    return null;
  }

  close(): void {
    this.#ask.close();
  }

  async #signed(name: string, created: RequestOutcome, signal: AbortSignal): Promise<string> {
    let outcome = created;
    for (let waitMs = firstPollMs; outcome.state === 'waiting'; waitMs = Math.min(waitMs * 1.5, longestPollMs)) {
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw notInTime(outcome);
      const read = requestSchema.safeParse(
        await this.#ask.read(name, signal).catch((error: unknown) => {
          throw signal.aborted ? notInTime(outcome) : error;
        }),
      );
      if (!read.success) throw unreadable();
      outcome = outcomeOf(read.data);
    }
    if (outcome.state === 'signed') return outcome.certificatesPem;
    throw refused(outcome);
  }

  #request(wanted: Wanted): object {
    return {
      apiVersion: 'cert-manager.io/v1',
      kind: 'CertificateRequest',
      metadata: { generateName: `culvert-${wanted.kind}-`, labels: this.#labels },
      spec: {
        request: Buffer.from(wanted.csrPem).toString('base64'),
        duration: `${Math.floor(wanted.ttlMs / 1000)}s`,
        isCA: false,
        usages: ['digital signature', ...leafUsages[wanted.kind]],
        issuerRef: this.#issuer,
      },
    };
  }
}

function refused({
  state,
  message,
}: Extract<RequestOutcome, { state: 'denied' | 'invalid' | 'failed' }>): CulvertError {
  const said = message === '' ? '' : `: ${message}`;
  if (state === 'denied') {
    return issuerError(
      'ISSUER_DENIED',
      `the request for the certificate was denied${said}`,
      'the policy of the approver (CertificateRequestPolicy) must allow what issuers.md lists for cert-manager',
    );
  }
  if (state === 'invalid') {
    return issuerError(
      'ISSUER_REFUSED',
      `cert-manager finds the request invalid${said}`,
      'see the events of the request',
    );
  }
  return issuerError(
    'ISSUER_REFUSED',
    `the issuer of cert-manager did not sign${said}`,
    'see kubectl describe of the Issuer or ClusterIssuer',
  );
}

function notInTime(outcome: RequestOutcome): CulvertError {
  const isUnapproved = outcome.state === 'waiting' && !outcome.isApproved;
  return issuerError(
    'ISSUER_BUSY',
    isUnapproved
      ? 'no approver has approved the request for the certificate in time'
      : 'cert-manager did not sign in time',
    isUnapproved
      ? 'cert-manager approves requests for issuers of its own group by itself, unless an approver such as approver-policy does: then give it a policy for this issuer'
      : 'see that cert-manager runs, and kubectl describe of the Issuer or ClusterIssuer',
  );
}

function unreadable(): CulvertError {
  return issuerError(
    'ISSUER_ANSWER',
    'the answer of the Kubernetes API is not a CertificateRequest of cert-manager.io/v1',
    'check --cert-manager-api, and that cert-manager is installed in this cluster',
  );
}
