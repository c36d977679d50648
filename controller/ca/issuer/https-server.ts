import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { readNamedFile, readUpTo } from '../../../shared/named-file.js';
import { isAboutDates } from '../../../shared/certificate-dates.js';
import { isTlsFailure } from '../../../shared/tls-failure.js';
import { version } from '../../../shared/version.js';
import { retryAfterMsOf, secretsOf, withoutSecrets } from './answer-text.js';
import { issuerError, quoted } from './issuer-error.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

export type Asked = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** With the leading slash, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly signal: AbortSignal;
};

/**
 * `body`: what the JSON says, without the secrets of the request; undefined: there is none, or it is no JSON, which only an
 * answer other than 2xx may have. `retryAfterMs`: how long the server wants to be left alone; null: it does not say.
 */
export type Answered = { readonly status: number; readonly body: unknown; readonly retryAfterMs: number | null };

/** More than any certificate with its chain has, or a page of requests. */
const maxAnswerBytes = 1024 * 1024;
const maxCaBytes = 1024 * 1024;
/** Of one request, its body included. */
const answerTimeoutMs = 5000;
const maxSockets = 16;

/**
 * The API of an issuer over HTTPS. Every answer has a limit of bytes and of time, redirects are not followed (the credential
 * would go along), and the server has to prove itself. Errors: `ISSUER_UNREACHABLE`, `ISSUER_UNTRUSTED`, `ISSUER_ANSWER`,
 * `ISSUER_CREDENTIAL` for the file with the CA.
 */
export class HttpsServer {
  readonly #name: string;
  readonly #base: URL;
  readonly #caFile: string | null;
  readonly #agent = new Agent({ keepAlive: true, maxSockets, maxFreeSockets: 2 });

  /** `name`: for people. `caFile`: PEM, read for each request, so that it may be replaced; null: the roots that Node has. */
  constructor(init: { readonly name: string; readonly url: URL; readonly caFile: string | null }) {
    this.#name = init.name;
    this.#base = init.url;
    this.#caFile = init.caFile;
  }

  async ask(asked: Asked): Promise<Answered> {
    const ca = await this.#readCa();
    const clean = withoutSecrets(secretsOf(asked.headers ?? {}, asked.body));
    const timeout = timeoutSignal(answerTimeoutMs);
    const signal = AbortSignal.any([asked.signal, timeout]);
    try {
      const response = await this.#send(asked, ca, signal);
      const { statusCode: status = 0 } = response;
      if (status >= 300 && status < 400) {
        response.destroy();
        throw this.#redirected(status, clean(response.headers.location ?? ''));
      }
      const bytes = await readUpTo(response, maxAnswerBytes);
      if (bytes === null) {
        response.destroy();
        throw this.#unreadable(`it is larger than ${maxAnswerBytes} bytes`);
      }
      const retryAfterMs = retryAfterMsOf(response.headers['retry-after'], Date.now());
      return { status, body: this.#parse(status, bytes, clean), retryAfterMs };
    } catch (error) {
      if (error instanceof CulvertError) throw error;
      throw this.#failed(error, signal.aborted);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(asked: Asked, ca: string | null, signal: AbortSignal): Promise<IncomingMessage> {
    const payload = asked.body === undefined ? null : Buffer.from(JSON.stringify(asked.body));
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest(
        new URL(this.#base.pathname.replace(/\/$/, '') + asked.path, this.#base),
        {
          method: asked.method,
          agent: this.#agent,
          minVersion: 'TLSv1.2',
          signal,
          headers: {
            accept: 'application/json',
            'user-agent': `culvert-controller/${version}`,
            ...(payload === null ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
            ...asked.headers,
          },
          ...(ca === null ? {} : { ca }),
        },
        resolve,
      );
      outgoing.on('error', reject);
      outgoing.end(payload ?? undefined);
    });
  }

  async #readCa(): Promise<string | null> {
    if (this.#caFile === null) return null;
    const file = await readNamedFile(this.#caFile, { maxBytes: maxCaBytes });
    if (file.isRead) return file.bytes.toString('utf8');
    throw issuerError(
      'ISSUER_CREDENTIAL',
      `cannot read ${this.#caFile}: ${file.problem}`,
      'set --issuer-ca-file to a PEM file with the CA of its HTTPS certificate',
    );
  }

  #parse(status: number, bytes: Buffer, clean: (text: string) => string): unknown {
    if (bytes.length === 0) return undefined;
    try {
      return JSON.parse(bytes.toString('utf8'), (_key, value: unknown) =>
        typeof value === 'string' ? clean(value) : value,
      );
    } catch {
      if (status >= 200 && status < 300) throw this.#unreadable('it is no JSON');
      return undefined;
    }
  }

  #redirected(status: number, location: string): CulvertError {
    const to = location === '' ? '' : ` to ${quoted(location)}`;
    return issuerError(
      'ISSUER_ANSWER',
      `${this.#name} redirects${to} (status ${status}), which is not followed: the credential would go along`,
      'set the address to that of the active server, or of a load balancer that leads to it',
    );
  }

  #unreadable(why: string): CulvertError {
    return issuerError(
      'ISSUER_ANSWER',
      `the answer of ${this.#name} cannot be used: ${why}`,
      'check that the address is that of its API, not of a proxy or a page for people',
    );
  }

  #failed(cause: unknown, isLate: boolean): CulvertError {
    if (isTlsFailure(cause)) {
      return issuerError(
        'ISSUER_UNTRUSTED',
        `${this.#name} could not prove its identity: ${describeError(cause)}`,
        isAboutDates(cause)
          ? 'set the time of this host or of that server, whichever is wrong (date -u), or renew its HTTPS certificate'
          : 'set --issuer-ca-file to the CA of its HTTPS certificate, and the address to a name in that certificate',
        cause,
      );
    }
    const why = isLate ? 'it did not answer in time' : describeError(cause);
    return issuerError(
      'ISSUER_UNREACHABLE',
      `cannot reach ${this.#name}: ${why}`,
      'check that it runs, its address, and the network between',
      cause,
    );
  }
}
