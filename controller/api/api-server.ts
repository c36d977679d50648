import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { parseIp } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';
import { BoundedServer, optionsFor, type ConnectionCut, type ServerLimits } from '../../shared/http/bounded-server.js';
import type { Log } from '../../shared/log.js';
import { requireRole, type Principal } from '../access/role.js';
import type { ServerKeyPair } from '../ca/server-certificate.js';
import { stranger, type AuditTrail } from '../audit-log/audit-trail.js';
import { badRequest, toErrorAnswer } from './api-error.js';
import { nextRootHeader } from './api-types.js';
import { isRefusal, runAudited } from './audited-requests.js';
import { matchRoute, type ApiAnswer, type Route } from './router.js';

/** What clients can hold of the API. A client that exceeds a time is disconnected. */
const limits: ServerLimits = {
  connections: 2048,
  perSource: 256,
  headTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  idleTimeoutMs: 30_000,
  readTimeoutMs: 60_000,
  closeGraceMs: 5000,
};
/** For the body of a request that needs no credential. A join has a few kilobytes, and an API server asks at once. */
const openBodyTimeoutMs = 10_000;
/** Status for the metrics when the client disconnected before the answer; nginx uses the same number. */
const clientClosedRequest = 499;

/** An answered request. `route` is the pattern, never the path, so that it can be a metric label. */
export type AnsweredRequest = {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly durationMs: number;
};

/**
 * The HTTPS server of the API. It owns its sockets and bounds their number, size and time. Answers are JSON; errors are
 * `{ code, message, hint }`.
 */
export class ApiServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #bounded: BoundedServer;
  readonly #routes: readonly Route[];
  readonly #authenticate: (authorization: string | undefined) => Principal | undefined;
  readonly #trail: AuditTrail;
  readonly #nextRoot: () => string | null;
  readonly #log: Log;
  readonly #onAnswered: (answered: AnsweredRequest) => void;

  constructor(init: {
    readonly identity: ServerKeyPair;
    readonly routes: readonly Route[];
    /** The principal of an Authorization header; undefined when it is not valid. May throw CulvertError. */
    readonly authenticate: (authorization: string | undefined) => Principal | undefined;
    readonly trail: AuditTrail;
    /** SHA-256 of the root that is about to sign, hex: clients say when theirs do not trust it. Null: no root is prepared. */
    readonly nextRoot: () => string | null;
    readonly log: Log;
    readonly onAnswered: (answered: AnsweredRequest) => void;
    /** A limit ended a connection. */
    readonly onCut: (why: ConnectionCut) => void;
  }) {
    this.#routes = init.routes;
    this.#authenticate = init.authenticate;
    this.#trail = init.trail;
    this.#nextRoot = init.nextRoot;
    this.#log = init.log;
    this.#onAnswered = init.onAnswered;
    this.#server = createServer({
      cert: init.identity.chainPem,
      key: init.identity.privateKeyPem,
      minVersion: 'TLSv1.2',
      ...optionsFor(limits),
    });
    this.#bounded = new BoundedServer({
      server: this.#server,
      limits,
      onCut: init.onCut,
      onError: (error) => this.#log.error({ err: error }, 'the API server failed'),
      answer: (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          this.#log.error({ err: error }, 'could not write an answer');
          response.destroy();
        });
      },
    });
    this.#server.on('tlsClientError', (error) => this.#log.debug({ err: error }, 'a TLS handshake failed'));
    this.#server.on('clientError', (error) => this.#log.debug({ err: error }, 'could not read a request'));
  }

  /** Resolves with the port. Errors: `LISTEN_FAILED`. */
  async listen(host: string, port: number): Promise<number> {
    const given = await this.#bounded.listen({ host, port }).catch((cause: NodeJS.ErrnoException) => {
      throw listenError(host, port, cause);
    });
    return given;
  }

  /** New connections get the new certificate; open ones stay. */
  replaceIdentity(identity: ServerKeyPair): void {
    this.#server.setSecureContext({ cert: identity.chainPem, key: identity.privateKeyPem, minVersion: 'TLSv1.2' });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#bounded[Symbol.asyncDispose]();
  }

  /** Throws CulvertError `UNAUTHORIZED`. */
  #principal(request: IncomingMessage): Principal {
    const principal = this.#authenticate(request.headers.authorization);
    if (principal === undefined) throw unauthorized();
    this.#bounded.prove(request);
    return principal;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedAt = performance.now();
    const method = request.method ?? '';
    request.on('error', () => response.destroy());
    response.on('error', (error) => this.#log.debug({ err: error }, 'could not send an answer'));
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const remote = request.socket.remoteAddress ?? '';
    const source = parseIp(remote) ?? remote;
    let pattern = 'none';
    let subject: string = stranger;
    let hasLine = false;
    let answer: ApiAnswer;
    try {
      const url = readUrl(request.url);
      const { route, params } = matchRoute(this.#routes, method, url.pathname);
      pattern = route.path;
      const principal = route.access === 'open' ? undefined : this.#principal(request);
      subject = principal?.name ?? subject;
      if (principal !== undefined && route.access !== 'open') requireRole(principal, route.access);
      if (route.isKnown !== undefined) this.#bounded.prove(request);
      const body = await readRouteBody(request, route);
      const asked = { params, query: url.searchParams, body, source, subject, principal, signal: gone.signal };
      const { audit } = route;
      hasLine = audit !== undefined;
      answer = await (audit === undefined
        ? route.handle({ ...asked, ...unaudited })
        : runAudited({ ...route, audit }, asked, this.#trail));
    } catch (error) {
      if (!hasLine && isRefusal(error))
        this.#trail.refused({ user: subject, source }, error.code, { method, route: pattern });
      answer = toErrorAnswer(error);
      // A client that disconnected in the middle of its request gets no answer, and this is not our failure.
      if (request.destroyed && !request.complete) answer = { ...answer, status: clientClosedRequest };
      else if (answer.status >= 500) this.#log.error({ err: error, method, route: pattern }, 'a request failed');
    }
    this.#send(response, answer, request.complete);
    this.#onAnswered({ method, route: pattern, status: answer.status, durationMs: performance.now() - startedAt });
  }

  /** `isRead`: the whole request was read. If not, the connection closes, so that the rest is not read as the next request. */
  #send(response: ServerResponse, answer: ApiAnswer, isRead: boolean): void {
    const nextRoot = this.#nextRoot();
    const isText = answer.contentType !== undefined && typeof answer.body === 'string';
    this.#bounded.send(response, {
      status: answer.status,
      headers: {
        'content-type': answer.contentType ?? 'application/json; charset=utf-8',
        'strict-transport-security': 'max-age=31536000',
        ...(answer.status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
        ...(nextRoot === null ? {} : { [nextRootHeader]: nextRoot }),
        ...(isRead ? {} : { connection: 'close' }),
      },
      body: isText ? answer.body : `${JSON.stringify(answer.body)}\n`,
    });
  }
}

/** For routes without lines in the audit log. */
const unaudited = { note: () => undefined, begin: () => Promise.resolve() };

function readUrl(text = '/'): URL {
  const base = 'https://controller';
  if (URL.canParse(text, base)) return new URL(text, base);
  throw badRequest('the path of the request is malformed', 'paths of the API begin with /v1/');
}

/** The body. One that is open to all has less time than the whole request. Errors: `BODY_TOO_LARGE`, `REQUEST_TIMEOUT`. */
async function readRouteBody(request: IncomingMessage, { access, maxBodyBytes }: Route): Promise<Buffer> {
  if (access !== 'open') return await readBody(request, maxBodyBytes);
  const read = new AbortController();
  const late = delay(openBodyTimeoutMs, null, { signal: read.signal }).then(() => {
    throw slowBody();
  });
  try {
    return await Promise.race([readBody(request, maxBodyBytes), late]);
  } finally {
    read.abort();
  }
}

async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new CulvertError({
        code: 'BODY_TOO_LARGE',
        message: `the request body is larger than ${maxBytes} bytes`,
        hint: 'apply the documents in several parts',
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function slowBody(): CulvertError {
  return new CulvertError({
    code: 'REQUEST_TIMEOUT',
    message: `the body of the request did not come within ${openBodyTimeoutMs / 1000} s`,
    hint: 'send it faster',
  });
}

function unauthorized(): CulvertError {
  return new CulvertError({
    code: 'UNAUTHORIZED',
    message: 'the request has no valid credential',
    hint: 'use the context file that you received, or ask an administrator for a new one: culvert user renew NAME',
  });
}

/** Before anything is started that a start which fails would have to stop. Throws CulvertError `LISTEN_FAILED`. */
export async function assertApiCanListen({
  host,
  port,
}: {
  readonly host: string;
  readonly port: number;
}): Promise<void> {
  if (port === 0) return;
  const probe = net.createServer();
  try {
    probe.listen({ host, port });
    await once(probe, 'listening');
  } catch (cause) {
    throw listenError(host, port, cause as NodeJS.ErrnoException);
  }
  probe.close();
  await once(probe, 'close');
}

function listenError(host: string, port: number, cause: NodeJS.ErrnoException): CulvertError {
  const inUse = cause.code === 'EADDRINUSE';
  return new CulvertError({
    code: 'LISTEN_FAILED',
    message: `cannot listen on ${host} port ${port}: ${inUse ? 'the port is in use' : cause.message}`,
    hint: inUse
      ? 'stop the other program, or choose another port with --listen'
      : 'choose another address with --listen',
    cause,
  });
}
