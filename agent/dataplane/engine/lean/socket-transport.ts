import type tls from 'node:tls';
import { ignoreError } from '../../sockets/ignore-error.js';
import { readInto } from '../../sockets/read-into.js';
import { writeArenas } from './write-arenas.js';
import type { Transport, TransportOwner } from './transport.js';

/** Shared by all sockets of this thread. TLS delivers records of at most 16 KiB, and each is consumed at once. */
const readBuffer = Buffer.allocUnsafeSlow(16_384);

/** A connection of `node:tls`. Its owner gets no failure, only `onClosed`; who made the socket listens for failures. */
export class SocketTransport implements Transport {
  readonly writeBytes = 524_288;
  readonly #socket: tls.TLSSocket;
  #owner: TransportOwner | undefined;
  #output: NodeJS.Immediate | undefined;
  readonly #onTurn = (): void => {
    this.#output = undefined;
    if (!this.#socket.destroyed) this.#owner?.onOutput();
  };

  /** The socket must not stay half open when the peer has ended. */
  constructor(socket: tls.TLSSocket) {
    this.#socket = socket;
  }

  get isDestroyed(): boolean {
    return this.#socket.destroyed;
  }

  start(owner: TransportOwner): void {
    this.#owner = owner;
    const socket = this.#socket;
    socket.on('error', ignoreError);
    const receive = (chunk: Buffer): void => owner.onBytes(chunk);
    readInto({ socket, buffer: readBuffer, onLoan: receive, onOwned: receive });
    if (socket.closed) setImmediate(() => this.#lose());
    else socket.once('close', () => this.#lose());
  }

  /** More than one part is rare: it is what a peer makes us send before it reads. */
  write(parts: readonly Buffer[]): void {
    for (const part of parts) this.#write(part, part === parts.at(-1));
  }

  wantOutput(): void {
    // Not a microtask: TLS delivers 16 KiB at a time, and microtasks run in between.
    this.#output ??= setImmediate(this.#onTurn);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #write(part: Buffer, isLast: boolean): void {
    this.#socket.write(part, () => {
      writeArenas.release(part);
      if (isLast) this.#owner?.onWritten();
    });
  }

  #lose(): void {
    clearImmediate(this.#output);
    this.#owner?.onClosed();
    this.#owner = undefined;
  }
}
