import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { ListenAddress } from '../../shared/config/listen-address.js';
import { BoundedServer, optionsFor, type ConnectionCut, type ServerLimits } from '../../shared/http/bounded-server.js';
import { acceptedFd } from '../native/addon.js';
import type { EndpointCertificate } from './endpoint-certificate.js';

export type EndpointAnswer = {
  readonly status: number;
  /** Objects are sent as JSON, strings as they are. */
  readonly body: unknown;
  readonly contentType?: string;
};

/** Answers one path. */
export type EndpointHandler = (url: URL) => Promise<EndpointAnswer> | EndpointAnswer;

/** Keys are `GET /path` or `POST /path`. */
export type EndpointRoutes = Readonly<Record<`${'GET' | 'POST'} /${string}`, EndpointHandler>>;

/** What an unknown client can hold open. */
const limits: ServerLimits = {
  connections: 256,
  perSource: 32,
  headTimeoutMs: 10_000,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 5000,
  readTimeoutMs: 10_000,
  closeGraceMs: 5000,
};

/**
 * A small HTTP server for health, metrics and admin: fixed paths, no bodies, short timeouts. Owns its socket.
 * `loopbackOnly` refuses requests whose Host header is a name other than localhost, so that a web page in a browser on
 * this host cannot reach the server through a name of its own (DNS rebinding).
 */
export class HttpEndpoint {
  readonly #bounded: BoundedServer;
  readonly #log: Log;
  readonly #routes: EndpointRoutes;
  readonly #loopbackOnly: boolean;

  /** An endpoint that listens nowhere yet: see {@link listenOn}. */
  constructor(init: {
    readonly routes: EndpointRoutes;
    readonly log: Log;
    readonly loopbackOnly?: boolean;
    /** What a connection that brings no request gets when the endpoint closes. */
    readonly graceMs?: number;
    /** Serves HTTPS with it; null, the default: plain HTTP. */
    readonly certificate?: EndpointCertificate | null;
    /** Called for each connection that a limit ended. */
    readonly onCut?: (why: ConnectionCut) => void;
  }) {
    const { certificate = null, graceMs = limits.closeGraceMs, onCut = () => undefined } = init;
    this.#routes = init.routes;
    this.#log = init.log;
    this.#loopbackOnly = init.loopbackOnly ?? false;
    this.#bounded = new BoundedServer({
      server: certificate === null ? createServer(optionsFor(limits)) : secureServer(certificate),
      limits: { ...limits, closeGraceMs: graceMs },
      onCut,
      onError: (error) => init.log.error({ err: error }, 'endpoint failed'),
      answer: (request, response) => void this.#answer(request, response),
    });
  }

  /** Listens. Throws CulvertError `LISTEN_FAILED` with a hint, and may be called again then. */
  async listenOn(where: {
    readonly address: ListenAddress;
    /** Name of the setting, for the error message. */
    readonly setting: string;
    /** A socket that listens on this address already, from the process before; it becomes the endpoint's. */
    readonly keptFd?: number | undefined;
  }): Promise<void> {
    const { address, setting, keptFd } = where;
    await this.#bounded.listen(keptFd === undefined ? address : { fd: keptFd }).catch((cause: unknown) => {
      throw new CulvertError({
        code: 'LISTEN_FAILED',
        message: `cannot listen on ${address.host} port ${address.port}: ${describeError(cause)}`,
        hint: `another process has it, or this host does not; see ${setting}`,
        cause,
      });
    });
  }

  /** Serves a connection that another server has accepted. */
  adopt(socket: Socket): void {
    this.#bounded.adopt(socket);
  }

  /** 0: it does not listen. */
  get port(): number {
    return (this.#bounded.listener.address() as AddressInfo | null)?.port ?? 0;
  }

  /** Its listening socket, which stays its own. */
  get fd(): number {
    return acceptedFd(this.#bounded.listener);
  }

  /** Stops listening at once; see {@link BoundedServer}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#bounded[Symbol.asyncDispose]();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = await this.#handle(request);
    const isText = typeof answer.body === 'string';
    const body = typeof answer.body === 'string' ? answer.body : `${JSON.stringify(answer.body, null, 2)}\n`;
    this.#bounded.send(response, {
      status: answer.status,
      headers: {
        'content-type': answer.contentType ?? (isText ? 'text/plain; charset=utf-8' : 'application/json'),
        // One request each: who asks every few seconds gains nothing from an open connection, and none has to be cut.
        connection: 'close',
      },
      body,
    });
  }

  async #handle(request: IncomingMessage): Promise<EndpointAnswer> {
    if (this.#loopbackOnly && !isLoopbackHost(request.headers.host)) {
      return failure(403, 'HOST_FORBIDDEN', 'this endpoint only accepts an IP address or localhost as Host');
    }
    const target = request.url ?? '/';
    if (!URL.canParse(target, 'http://localhost'))
      return failure(400, 'BAD_REQUEST', 'the request target cannot be parsed');
    try {
      const url = new URL(target, 'http://localhost');
      const method = request.method === 'HEAD' ? 'GET' : request.method;
      const handler = this.#find(`${method ?? 'GET'} ${url.pathname}`);
      if (handler !== undefined) return await handler(url);
      const paths = Object.keys(this.#routes);
      const other = paths.find((path) => path.endsWith(` ${url.pathname}`));
      return other === undefined
        ? { status: 404, body: { code: 'NOT_FOUND', message: 'no such path', hint: paths.join(', ') } }
        : failure(405, 'METHOD_NOT_ALLOWED', `use ${other}`);
    } catch (error) {
      if (error instanceof CulvertError) return failure(400, error.code, describeError(error));
      this.#log.error({ err: error, path: request.url }, 'request to the endpoint failed');
      return failure(500, 'INTERNAL', 'the request failed; see the log of the agent');
    }
  }

  #find(key: string): EndpointHandler | undefined {
    return Object.entries(this.#routes).find(([route]) => route === key)?.[1];
  }
}

function secureServer(certificate: EndpointCertificate): https.Server {
  const server = https.createServer({ ...optionsFor(limits), ...certificate.current, minVersion: 'TLSv1.2' });
  certificate.onChange((pair) => server.setSecureContext({ ...pair, minVersion: 'TLSv1.2' }));
  return server;
}

function failure(status: number, code: string, message: string): EndpointAnswer {
  return { status, body: { code, message } };
}

function isLoopbackHost(host: string | undefined): boolean {
  return host !== undefined && /^(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\])(:\d+)?$/.test(host);
}
