import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { isAboutDates, missedDates } from '../../../shared/certificate-dates.js';
import { namesOfOther } from '../../../shared/tls-failure.js';
import { nextRootHeader, type ProblemsAnswer } from '../../api/api-types.js';
import type { Context } from './context.js';
import { CliError, type ExitName } from '../exit-codes.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

/** Timeout of a request; compiling and storing a large apply takes much less. */
const requestTimeoutMs = 60_000;
const maxAnswerBytes = 64 * 1024 * 1024;

export type ApiRequest = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Segments of the path after `/v1`, not encoded. */
  readonly path: readonly string[];
  /** Undefined values are omitted. */
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
};

type Received = { readonly status: number; readonly text: string; readonly nextRoot?: string };

/** The controller refused the resources; nothing was changed. */
export class RefusedError extends CliError {
  readonly answer: ProblemsAnswer;

  constructor({ answer }: { readonly answer: ProblemsAnswer }) {
    super({ exit: 'failed', code: answer.code, message: answer.message, hint: answer.hint });
    this.name = 'RefusedError';
    this.answer = answer;
  }
}

/**
 * Client of the controller's API. Each request uses its own connection, which trusts only the CA of the context. Throws
 * CliError: `unreachable`, `unauthorized`, `notFound`, or `failed` with the controller's message; {@link RefusedError} has
 * the list of problems.
 */
export class ApiClient {
  readonly #context: Context;
  readonly #onNextRoot: (hash: string) => Promise<void>;

  /** `onNextRoot` is called with the hash of a root that is about to sign, and the answer waits for it. */
  constructor(init: { readonly context: Context; readonly onNextRoot?: (hash: string) => Promise<void> }) {
    this.#context = init.context;
    this.#onNextRoot = init.onNextRoot ?? (() => Promise.resolve());
  }

  async call<Answer>(call: ApiRequest): Promise<Answer> {
    const { status, text, nextRoot } = await this.#send(call);
    if (nextRoot !== undefined) await this.#onNextRoot(nextRoot);
    const json = parseJson(text);
    if (status >= 200 && status < 300 && json !== undefined) return json as Answer;
    throw this.#refusal(status, json);
  }

  #send({ method, path, query = {}, body }: ApiRequest): Promise<Received> {
    const { url, caPem, token } = this.#context;
    const target = new URL(`/v1/${path.map(encodeURIComponent).join('/')}`, url);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) target.searchParams.set(name, value);
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const outgoing = request(target, {
        method,
        agent: false,
        ca: caPem,
        signal: timeoutSignal(requestTimeoutMs),
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'application/json',
          ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
        },
      });
      const fail = (cause: unknown): void => void unreachable(this.#context, cause).then(reject, reject);
      outgoing.on('error', fail);
      outgoing.on('response', (incoming) => {
        const nextRoot = incoming.headers[nextRootHeader];
        const root = typeof nextRoot === 'string' ? { nextRoot } : {};
        readBody(incoming).then((text) => resolve({ status: incoming.statusCode ?? 0, text, ...root }), fail);
      });
      outgoing.end(payload);
    });
  }

  #refusal(status: number, json: unknown): CliError {
    const { code, message, hint, problems } = (json ?? {}) as Partial<Omit<ProblemsAnswer, 'code'> & { code: string }>;
    if (typeof code !== 'string' || typeof message !== 'string') {
      return new CliError({
        exit: 'unreachable',
        code: 'NO_CONTROLLER',
        message: `${this.#context.url.origin} answered with status ${status}, but not like a controller`,
        hint: 'check the address in the context file',
      });
    }
    if (Array.isArray(problems)) return new RefusedError({ answer: json as ProblemsAnswer });
    if (code === 'METHOD_NOT_ALLOWED' || (code === 'NOT_FOUND' && message.startsWith(noRoute))) {
      return new CliError({
        exit: 'failed',
        code: 'OTHER_VERSION',
        message: `the controller does not know what this command asks for: ${message}`,
        hint: 'run culvert in the version of the controller: compare culvert --version with culvert check',
      });
    }
    const exit = code === 'BAD_REQUEST' ? 'usage' : exitOf(status);
    const next = typeof hint === 'string' ? hint : exit === 'unauthorized' ? unauthorizedHint : undefined;
    return new CliError({ exit, code, message, ...(next === undefined ? {} : { hint: next }) });
  }
}

/** How a controller begins that has no such route: another version. */
const noRoute = 'there is nothing at ';
const unauthorizedHint = 'ask an administrator for a new context file: culvert user renew NAME';

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function readBody(incoming: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > maxAnswerBytes) throw new Error(`the answer is larger than ${maxAnswerBytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

const certificateHint =
  'the context file has an old CA or that of another controller: ask an administrator for a new one (culvert user renew NAME)';

const clockHint = 'set the time of this machine if it is wrong (date -u)';
const oldContextHint = 'the context file is too old: ask an administrator for a new one (culvert user renew NAME)';
const notRenewedHint = 'look at the time and the log of the controller, which renews its certificate by itself';

function exitOf(status: number): ExitName {
  if (status === 404) return 'notFound';
  return status === 401 || status === 403 ? 'unauthorized' : 'failed';
}

/** Node's error codes for a certificate that is not trusted. For those about its dates: {@link isAboutDates}. */
const certificateCodes = [
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'CERT_SIGNATURE_FAILURE',
  'UNABLE_TO_GET_ISSUER_CERT',
];

async function unreachable({ url, caPem }: Context, cause: unknown): Promise<CliError> {
  const { origin, hostname } = url;
  const { code = '', message, name } = cause as NodeJS.ErrnoException;
  if (isAboutDates(cause)) {
    const { text: dates, hasRootExpired } = await missedDates(url, caPem);
    const text = `the certificate of ${origin} is not trusted (${code}): ${dates}`;
    const hint = `${clockHint}; if it is right, ${hasRootExpired ? oldContextHint : notRenewedHint}`;
    return new CliError({ exit: 'unreachable', code: 'UNTRUSTED', message: text, hint, cause });
  }
  if (certificateCodes.includes(code)) {
    const text = `the certificate of ${origin} is not trusted (${code})`;
    return new CliError({ exit: 'unreachable', code: 'UNTRUSTED', message: text, hint: certificateHint, cause });
  }
  const names = namesOfOther(cause);
  if (names !== null) {
    const text = `the certificate of ${origin} is for other names: ${names.join(', ')}`;
    const hint = `use one of these in the context file, or add ${hostname} to --advertise of the controller`;
    return new CliError({ exit: 'unreachable', code: 'UNTRUSTED', message: text, hint, cause });
  }
  const [detail, hint] =
    name === 'AbortError' || name === 'TimeoutError'
      ? ['no answer within 60 seconds', 'check the log of the controller, or try again']
      : (reasons[code] ?? [code === '' ? message : code, 'check the address in the context file']);
  const text = `cannot reach the controller at ${origin}: ${detail}`;
  return new CliError({ exit: 'unreachable', code: 'UNREACHABLE', message: text, hint, cause });
}

const reasons: Readonly<Record<string, readonly [detail: string, hint: string]>> = {
  ECONNREFUSED: ['nothing listens there', 'start culvert-controller, or correct the address in the context file'],
  ENOTFOUND: ['its name does not resolve', 'correct the address in the context file'],
  EAI_AGAIN: ['its name cannot be resolved now', 'check DNS, or use an IP address in the context file'],
  EHOSTUNREACH: ['there is no route to it', 'check routes and firewalls'],
  ENETUNREACH: ['there is no route to it', 'check routes and firewalls'],
  ETIMEDOUT: ['it did not answer', 'check routes and firewalls'],
  ECONNRESET: ['it closed the connection', 'check the log of the controller, or try again'],
  EPROTO: ['it does not speak TLS', 'correct the address in the context file'],
};
