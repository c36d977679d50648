import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { httpsIdentity } from '../http/https-identity.js';

export type HeardRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
};
export type GivenAnswer = {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
};

/** What a server may do in place of an answer. */
export type Misbehaviour = 'garbage' | 'endless' | 'silent' | 'dripping' | 'reset' | 'redirect';

/** An HTTPS server of an issuer with a certificate of a CA of its own, which `caFile` has. */
export class IssuerServer implements AsyncDisposable {
  readonly directory: string;
  readonly caFile: string;
  readonly heard: HeardRequest[] = [];
  /** Null: it behaves. */
  misbehaves: Misbehaviour | null = null;
  /** Before each answer. */
  delayMs = 0;
  /** Requests that are being answered now, and the most there were. */
  running = 0;
  mostRunning = 0;
  answer: (request: HeardRequest) => GivenAnswer | Promise<GivenAnswer> = () => ({ status: 404 });
  readonly #server: Server;

  private constructor(init: { directory: string; caFile: string; server: Server }) {
    this.directory = init.directory;
    this.caFile = init.caFile;
    this.#server = init.server;
    init.server.on('request', (request, response) => {
      this.#serve(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
    });
    init.server.on('tlsClientError', () => undefined);
  }

  static async start(): Promise<IssuerServer> {
    const directory = await mkdtemp(join(tmpdir(), 'culvert-issuer-'));
    const caFile = join(directory, 'https-ca.pem');
    const { cert, key, caPem } = await httpsIdentity();
    await writeFile(caFile, caPem);
    const server = createServer({ cert, key });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new IssuerServer({ directory, caFile, server });
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A file that only this test knows. */
  async file(name: string, text: string): Promise<string> {
    const path = join(this.directory, name);
    await writeFile(path, text);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.directory, { recursive: true });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const { method = '', url = '', headers } = request;
    const heard = { method, path: url, headers, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
    this.heard.push(heard);
    this.running++;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    response.once('close', () => this.running--);
    if (this.misbehaves !== null) return misbehave(this.misbehaves, request, response);
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    const { status, body, headers: given = {} } = await this.answer(heard);
    response.writeHead(status, { 'content-type': 'application/json', ...given });
    response.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  }
}

function misbehave(how: Misbehaviour, request: IncomingMessage, response: ServerResponse): void {
  if (how === 'silent') return;
  if (how === 'reset') return void request.socket.destroy();
  if (how === 'garbage') return void response.end('<html>Welcome</html>');
  if (how === 'redirect')
    return void response.writeHead(307, { location: 'https://evil.test/v1/take-the-token' }).end();
  response.writeHead(200, { 'content-type': 'application/json' });
  const piece = how === 'endless' ? `"${'x'.repeat(64 * 1024)}",` : ' ';
  const timer = setInterval(() => response.write(piece), how === 'endless' ? 1 : 50);
  response.write('[');
  response.once('close', () => clearInterval(timer));
}
