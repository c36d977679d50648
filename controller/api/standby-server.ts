import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { BoundedServer, optionsFor, type ServerLimits } from '../../shared/http/bounded-server.js';
import type { Log } from '../../shared/log.js';
import type { ServerKeyPair } from '../ca/server-certificate.js';
import type { ReadyAnswer } from './api-types.js';

const limits: ServerLimits = {
  connections: 256,
  perSource: 64,
  headTimeoutMs: 5000,
  requestTimeoutMs: 5000,
  idleTimeoutMs: 5000,
  readTimeoutMs: 5000,
  closeGraceMs: 500,
};

/**
 * What answers at the address of the API while this controller stands by: probes, metrics, and that another one serves. It reads
 * no body and knows no credential. Owns its sockets.
 */
export class StandbyServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #bounded: BoundedServer;
  readonly #waitsFor: () => string;
  #port = 0;

  private constructor(init: { readonly identity: ServerKeyPair; readonly waitsFor: () => string; readonly log: Log }) {
    this.#waitsFor = init.waitsFor;
    this.#server = createServer({ ...secureOptions(init.identity), ...optionsFor(limits) });
    this.#bounded = new BoundedServer({
      server: this.#server,
      limits,
      onCut: () => undefined,
      onError: (error) => init.log.error({ err: error }, 'the server of a controller that stands by failed'),
      answer: (request, response) => this.#answer(request, response),
    });
  }

  /** `waitsFor`: what it waits for, for people. Errors: those of the system where it cannot listen. */
  static async start(init: {
    readonly host: string;
    readonly port: number;
    readonly identity: ServerKeyPair;
    readonly waitsFor: () => string;
    readonly log: Log;
  }): Promise<StandbyServer> {
    const server = new StandbyServer(init);
    server.#port = await server.#bounded.listen({ host: init.host, port: init.port });
    return server;
  }

  get port(): number {
    return this.#port;
  }

  /** New connections get the new certificate. */
  replaceIdentity(identity: ServerKeyPair): void {
    this.#server.setSecureContext(secureOptions(identity));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#bounded[Symbol.asyncDispose]();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.on('error', () => response.destroy());
    const [status, body] = this.#said(request.method ?? '', (request.url ?? '').split('?', 1)[0] ?? '');
    const isText = typeof body === 'string';
    this.#bounded.send(response, {
      status,
      headers: {
        'content-type': isText ? 'text/plain; version=0.0.4; charset=utf-8' : 'application/json; charset=utf-8',
        // What is left of a request is not read.
        connection: 'close',
      },
      body: isText ? body : `${JSON.stringify(body)}\n`,
    });
  }

  #said(method: string, path: string): readonly [status: number, body: object | string] {
    const waitsFor = this.#waitsFor();
    if (method === 'GET' && path === '/healthz') return [200, { isHealthy: true }];
    // Ready to take over; the Service leads to the one that serves.
    if (method === 'GET' && path === '/readyz')
      return [200, { isReady: true, pending: [], standsBy: waitsFor } satisfies ReadyAnswer];
    if (method === 'GET' && path === '/metrics') return [200, standingByMetric(1)];
    const body = {
      code: 'NOT_LEADER',
      message: `this controller stands by: ${waitsFor}`,
      hint: 'ask the Service of the controller, which leads to the one that serves; in a while, this may be another one',
    };
    return [503, body];
  }
}

/** The same gauge as that of a controller that serves. */
function standingByMetric(value: number): string {
  const name = 'culvert_controller_standing_by';
  return `# HELP ${name} 1 while it stands by for another.\n# TYPE ${name} gauge\n${name} ${value}\n`;
}

function secureOptions({ chainPem, privateKeyPem }: ServerKeyPair) {
  return { cert: chainPem, key: privateKeyPem, minVersion: 'TLSv1.2' } as const;
}
