import { STATUS_CODES, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { ConnectionPlaces, type Place, type PlaceCut } from './connection-places.js';
import { HandshakePace } from './handshake-pace.js';

/** Why a server ended a connection by itself. */
export type ConnectionCut = PlaceCut | 'slow_handshake' | 'slow_request' | 'slow_reader';

/** All of them, for metrics. */
export const connectionCuts: readonly ConnectionCut[] = [
  'source',
  'full',
  'slow_handshake',
  'slow_request',
  'slow_reader',
];

/** What clients can hold of a server. */
export type ServerLimits = {
  /** Connections at once. */
  readonly connections: number;
  /** Of them, from one source that has shown no credential on them. */
  readonly perSource: number;
  /** For the first byte, for a TLS handshake, and then for the head of a request. */
  readonly headTimeoutMs: number;
  /** For a whole request. */
  readonly requestTimeoutMs: number;
  /** For the next request on a connection. */
  readonly idleTimeoutMs: number;
  /** For reading an answer. */
  readonly readTimeoutMs: number;
  /** When the server closes: for requests that have not come or are not answered yet. */
  readonly closeGraceMs: number;
};

export type ServedAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

const maxHeadBytes = 16 * 1024;

/** The part of the limits that Node enforces, for `createServer` of http and https. */
export function optionsFor(limits: ServerLimits): ServerOptions & { readonly handshakeTimeout: number } {
  return {
    handshakeTimeout: limits.headTimeoutMs,
    headersTimeout: limits.headTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    maxHeaderSize: maxHeadBytes,
    // Node looks every 30 s otherwise, so a slow request could take four times as long as it may.
    connectionsCheckingInterval: 1000,
  };
}

/** A handshake takes about a millisecond of the thread, so a storm of them leaves it most of its time. */
const betweenHandshakesMs = 3;

/** What a request that cannot be read gets, by the code of Node's error. Null: nothing, because the client has gone. */
const unreadable: Readonly<Record<string, readonly [status: number, code: string, message: string, hint: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'REQUEST_TIMEOUT', 'the request did not come in time', 'send it faster'],
  HPE_HEADER_OVERFLOW: [431, 'HEAD_TOO_LARGE', 'the head of the request is too large', 'shorten the names in it'],
};
const malformed = [400, 'BAD_REQUEST', 'this is no HTTP request', 'use HTTP/1.1'] as const;

/**
 * A server for HTTP or HTTPS of which clients can hold so much and no more. All servers of agent and controller are such.
 * Owns its sockets.
 *
 * `answer` answers a request with {@link send}; it never rejects. `onCut` is called for each connection that the server ended
 * because of a limit.
 */
export class BoundedServer implements AsyncDisposable {
  readonly #server: Server;
  /** What listens: a server of its own, because a connection that is silent must not cost a TLS socket or a parser. */
  readonly #listener = net.createServer({ allowHalfOpen: true, noDelay: true });
  readonly #isTls: boolean;
  readonly #limits: ServerLimits;
  readonly #onCut: (why: ConnectionCut) => void;
  readonly #onError: (error: Error) => void;
  readonly #places: ConnectionPlaces;
  readonly #pace = new HandshakePace({ betweenMs: betweenHandshakesMs });
  /** Of connections whose TLS handshake may not be complete; the key is their addresses. */
  readonly #byAddresses = new Map<string, Place>();
  readonly #bySocket = new WeakMap<net.Socket, Place>();
  #closed: Promise<void> | null = null;
  #isAdopting = false;

  constructor(init: {
    /** Made with {@link optionsFor}, without a listener for requests. */
    readonly server: Server;
    readonly limits: ServerLimits;
    readonly onCut: (why: ConnectionCut) => void;
    /** The server failed after it listened. */
    readonly onError: (error: Error) => void;
    readonly answer: (request: IncomingMessage, response: ServerResponse) => void;
  }) {
    const { server, limits, onCut, answer } = init;
    this.#server = server;
    this.#limits = limits;
    this.#onCut = onCut;
    this.#onError = init.onError;
    this.#isTls = server instanceof tls.Server;
    const { connections: total, perSource } = limits;
    this.#places = new ConnectionPlaces({ total, perSource, isTls: this.#isTls, onCut });
    this.#listener.on('connection', (socket: net.Socket) => this.#handOver(socket, this.#accepted(socket)));
    server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket));
    server.on('request', (request, response) => {
      const place = this.#bySocket.get(request.socket);
      place?.begin();
      response.once('close', () => place?.end());
      response.on('error', () => undefined);
      answer(request, response);
    });
    server.on('clientError', (error: NodeJS.ErrnoException, socket: net.Socket) => this.#refuse(error, socket));
    server.on('tlsClientError', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') onCut('slow_handshake');
    });
  }

  /** Resolves with the port. Rejects with the error of the system. */
  async listen(where: net.ListenOptions | { readonly fd: number }): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(where, () => {
        this.#listener.off('error', reject);
        // Disposed meanwhile.
        if (this.#closed !== null) this.#listener.close();
        resolve();
      });
    });
    if (this.#closed !== null) return 0;
    this.#listener.on('error', this.#onError);
    // Starts http's timer that looks after connections.
    this.#server.emit('listening');
    return (this.#listener.address() as AddressInfo).port;
  }

  /** What listens, for its address and its descriptor. */
  get listener(): net.Server {
    return this.#listener;
  }

  /** In place of {@link listen}: serves a connection that another server has accepted. */
  adopt(socket: net.Socket): void {
    if (this.#closed !== null) {
      socket.destroy();
      return;
    }
    // Starts http's timer that looks after connections.
    if (!this.#isAdopting) this.#server.emit('listening');
    this.#isAdopting = true;
    this.#listener.emit('connection', socket);
  }

  /** The client has shown a valid credential: its connection is among the last to go. */
  prove(request: IncomingMessage): void {
    this.#bySocket.get(request.socket)?.prove();
  }

  send(response: ServerResponse, { status, headers, body }: ServedAnswer): void {
    if (response.destroyed) return;
    response.writeHead(status, {
      ...headers,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(this.#closed === null ? {} : { connection: 'close' }),
    });
    response.end(body);
    const timer = setTimeout(() => {
      this.#onCut('slow_reader');
      response.destroy();
    }, this.#limits.readTimeoutMs);
    response.once('close', () => clearTimeout(timer));
  }

  /**
   * Stops listening at once. Resolves when every connection that was accepted before is answered, or cut after the grace: a
   * process that takes over may have the same listening socket, so none that a client opens meanwhile is reset.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return (this.#closed ??= this.#close());
  }

  async #close(): Promise<void> {
    if (!this.#listener.listening) {
      if (this.#isAdopting) this.#server.close();
      this.#places.disconnect('all');
      return;
    }
    // Not http's own close, which on Node 26 also cuts connections whose request has not come yet.
    const closed = new Promise<void>((resolve) => net.Server.prototype.close.call(this.#listener, () => resolve()));
    this.#places.disconnect('idle');
    const timer = setTimeout(() => this.#places.disconnect('all'), this.#limits.closeGraceMs);
    await closed;
    clearTimeout(timer);
    // Ends http's timer.
    this.#server.close();
  }

  #accepted(socket: net.Socket): Place {
    socket.on('error', () => undefined);
    const place = this.#places.take(socket);
    this.#bySocket.set(socket, place);
    const key = addressesOf(socket);
    this.#byAddresses.set(key, place);
    socket.once('close', () => {
      if (this.#byAddresses.get(key) === place) this.#byAddresses.delete(key);
    });
    return place;
  }

  /** The server of the protocol gets the connection when the client begins to speak, and for TLS in its turn. */
  #handOver(socket: net.Socket, place: Place): void {
    const onTimeout = (): void => {
      if (!place.isLost) this.#refuseSilent(socket);
    };
    socket.setTimeout(this.#limits.headTimeoutMs, onTimeout);
    socket.once('readable', () => {
      if (socket.readableLength === 0) {
        socket.destroy();
        return;
      }
      // One that speaks after it lost its place waits for its end: the client is not to choose the moment.
      if (place.isLost && this.#isTls) return;
      socket.setTimeout(0, onTimeout);
      place.speak();
      if (!this.#isTls) {
        this.#server.emit('connection', socket);
        return;
      }
      const giveUp = this.#pace.wait(place.source, () => {
        socket.off('close', giveUp);
        if (!socket.destroyed) this.#server.emit('connection', socket);
      });
      socket.once('close', giveUp);
    });
  }

  #refuseSilent(socket: net.Socket): void {
    if (!this.#isTls) {
      this.#refuse({ code: 'ERR_HTTP_REQUEST_TIMEOUT' }, socket);
      return;
    }
    this.#onCut('slow_handshake');
    socket.destroy();
  }

  /** Node does not tell which socket a TLS socket was made of, but both have the same addresses. */
  #secured(socket: TLSSocket): void {
    const place = this.#byAddresses.get(addressesOf(socket));
    if (place === undefined) socket.destroy();
    else this.#bySocket.set(socket, place);
  }

  #refuse({ code = '' }: { readonly code?: string | undefined }, socket: net.Socket): void {
    if (code === 'ERR_HTTP_REQUEST_TIMEOUT') this.#onCut('slow_request');
    const isOfParser = code.startsWith('HPE_') || code.startsWith('ERR_HTTP_');
    if (!isOfParser || !socket.writable) {
      socket.destroy();
      return;
    }
    const [status, name, message, hint] = unreadable[code] ?? malformed;
    const body = `${JSON.stringify({ code: name, message, hint })}\n`;
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
    socket.destroySoon();
  }
}

function addressesOf(socket: net.Socket): string {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
