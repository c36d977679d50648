import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import { readNamedFile, readUpTo } from '../../shared/named-file.js';
import { isAboutDates } from '../../shared/certificate-dates.js';
import { isTlsFailure } from '../../shared/tls-failure.js';
import { version } from '../../shared/version.js';
import { KubernetesError } from './kubernetes-error.js';
import { splitLines } from './split-lines.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** Of a page of 500 pods: each has some ten thousand at most. */
const maxAnswerBytes = 64 * 1024 * 1024;
/** etcd takes no object that is larger than 1.5 MiB. */
const maxEventBytes = 8 * 1024 * 1024;
const maxRefusalBytes = 64 * 1024;
const maxFileBytes = 1024 * 1024;
/** Of one request that is no watch, its body included. */
const answerTimeoutMs = 30_000;
/** A connection whose other end has gone without a word is noticed in about a minute. */
const keepAliveMs = 15_000;

type Ask = {
  readonly method: 'GET' | 'POST' | 'PATCH';
  readonly path: string;
  readonly body: object | null;
  readonly type?: string;
};

const statusSchema = z.object({ message: z.string().default(''), code: z.number().optional() });

/**
 * The API server of a cluster. The token and the CA are read again for each request, because kubelet replaces the token about
 * once an hour. Redirects are not followed. Errors: {@link KubernetesError}.
 */
export class KubernetesApi {
  readonly #base: URL;
  readonly #caFile: string;
  readonly #tokenFile: string;
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: 2 });

  constructor(init: { readonly url: URL; readonly caFile: string; readonly tokenFile: string }) {
    this.#base = init.url;
    this.#caFile = init.caFile;
    this.#tokenFile = init.tokenFile;
  }

  /** The JSON of an answer. `path` has its query. */
  get(path: string, signal: AbortSignal): Promise<unknown> {
    return this.#answer({ method: 'GET', path, body: null }, signal);
  }

  /** Sends an object, whose `Content-Type` is JSON unless it is a patch. Returns the JSON of the answer. */
  send(
    what: { readonly method: 'POST' | 'PATCH'; readonly path: string; readonly body: object; readonly type?: string },
    signal: AbortSignal,
  ): Promise<unknown> {
    return this.#answer(what, signal);
  }

  async #answer(ask: Ask, signal: AbortSignal): Promise<unknown> {
    const limited = AbortSignal.any([signal, timeoutSignal(answerTimeoutMs)]);
    const response = await this.#ask(ask, limited);
    const bytes = await readUpTo(response, maxAnswerBytes).catch((error: unknown) => {
      throw this.#unreachable(error, limited);
    });
    if (bytes === null) {
      response.destroy();
      throw this.#unreadable(`it is larger than ${maxAnswerBytes} bytes`);
    }
    return this.#parse(bytes.toString('utf8'));
  }

  /**
   * Resolves when the server has begun a watch, with its events until the server ends it. A consumer that takes no more ends
   * the request.
   */
  async watch(path: string, signal: AbortSignal): Promise<AsyncGenerator<unknown, void>> {
    return this.#eventsOf(await this.#ask({ method: 'GET', path, body: null }, signal), signal);
  }

  async *#eventsOf(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<unknown, void> {
    try {
      for await (const line of splitLines(response, maxEventBytes)) yield this.#parse(line);
    } catch (error) {
      if (error instanceof KubernetesError) throw error;
      throw this.#unreachable(error, signal);
    } finally {
      response.destroy();
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  async #ask(ask: Ask, signal: AbortSignal): Promise<IncomingMessage> {
    const [ca, token] = await Promise.all([this.#read(this.#caFile), this.#read(this.#tokenFile)]);
    const response = await this.#transmit(ask, { ca, token: token.split('\n', 1)[0]?.trim() ?? '', signal }).catch(
      (error: unknown) => {
        throw this.#unreachable(error, signal);
      },
    );
    const { statusCode = 0 } = response;
    if (statusCode === 200 || (ask.body !== null && statusCode === 201)) return response;
    throw await this.#refusal(response, ask);
  }

  #transmit(
    { method, path, body, type = 'application/json' }: Ask,
    { ca, token, signal }: { readonly ca: string; readonly token: string; readonly signal: AbortSignal },
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = {
        accept: 'application/json',
        authorization: `Bearer ${token}`,
        'user-agent': `culvert-controller/${version}`,
        ...(body === null ? {} : { 'content-type': type }),
      };
      const url = new URL(this.#base.pathname.replace(/\/$/, '') + path, this.#base);
      const options = { agent: this.#agent, ca, headers, method, minVersion: 'TLSv1.2', signal } as const;
      const outgoing = httpsRequest(url, options, resolve);
      outgoing.setSocketKeepAlive(true, keepAliveMs);
      outgoing.on('error', reject);
      outgoing.end(body === null ? undefined : JSON.stringify(body));
    });
  }

  async #read(path: string): Promise<string> {
    const file = await readNamedFile(path, { maxBytes: maxFileBytes });
    if (file.isRead) return file.bytes.toString('utf8');
    throw new KubernetesError({
      message: `cannot read ${path}: ${file.problem}`,
      hint: 'a pod has both files from its service account: see automountServiceAccountToken',
    });
  }

  async #refusal(response: IncomingMessage, { path, method }: Ask): Promise<KubernetesError> {
    const { statusCode: status = 0, headers } = response;
    const bytes = await readUpTo(response, maxRefusalBytes).catch(() => null);
    response.destroy();
    const said = bytes === null ? '' : saidIn(bytes.toString('utf8'));
    const seconds = Number(headers['retry-after']);
    return new KubernetesError({
      status,
      message: `the Kubernetes API answered ${status} to ${path.split('?', 1)[0] ?? path}${said === '' ? '' : `: ${said}`}`,
      hint: refusalHint(status, method === 'GET'),
      retryAfterMs: Number.isInteger(seconds) && seconds > 0 ? seconds * 1000 : null,
    });
  }

  #parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw this.#unreadable('it is no JSON');
    }
  }

  #unreadable(why: string): KubernetesError {
    return new KubernetesError({
      message: `the answer of the Kubernetes API at ${this.#base.origin} cannot be used: ${why}`,
      hint: 'check that the address is that of the API server',
    });
  }

  #unreachable(cause: unknown, { aborted: isLate }: AbortSignal): KubernetesError {
    const why = isLate ? 'it did not answer in time' : describeError(cause);
    return new KubernetesError({
      message: `the Kubernetes API at ${this.#base.origin} does not answer: ${why}`,
      hint: isAboutDates(cause)
        ? 'set the time of this host or of the cluster, whichever is wrong (date -u), or renew the certificate of its API'
        : isTlsFailure(cause)
          ? 'the CA file must have the CA of its certificate, and the address must be a name in it'
          : 'what is known of the cluster stays in force meanwhile; check the address and the network between',
      cause,
    });
  }
}

function refusalHint(status: number, isRead: boolean): string {
  if (status === 401) return 'the token does not count: see the service account of the controller';
  if (status === 403 && isRead) return 'its role must allow "list" and "watch" of this kind in all namespaces';
  if (status === 403) return 'its role must allow this: see the roles in the manifests of Culvert';
  if (status === 404) return 'this cluster does not serve the kind in this version';
  return 'it is tried again';
}

const maxTextLength = 300;

/** The message of a Status object, as one line of printable characters; empty: there is none. */
function saidIn(text: string): string {
  try {
    const read = statusSchema.safeParse(JSON.parse(text));
    return read.success
      ? read.data.message
          .replaceAll(/[^\x20-\x7e]+/g, ' ')
          .trim()
          .slice(0, maxTextLength)
      : '';
  } catch {
    return '';
  }
}
