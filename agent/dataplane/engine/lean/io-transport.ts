import { mostTlsBytes } from '../../../native/io-calls.js';
import type { TlsOwner, TlsSession } from '../../io/tls-session.js';
import type { Transport, TransportOwner } from './transport.js';
import { writeArenas } from './write-arenas.js';

/** By which an output may exceed what was asked for: the largest frame of one stream and its header. */
const oneFrameMore = 66_000;

/** A TLS session of the floor, whose peer has been admitted. */
export class IoTransport implements Transport, TlsOwner {
  /** One call of TLS takes all of it, and then nothing has to be copied to wait. */
  readonly writeBytes = mostTlsBytes - oneFrameMore;
  readonly #session: TlsSession;
  #owner: TransportOwner | undefined;
  #isDestroyed = false;

  /** Owns the session from here on. What comes waits until {@link start}. */
  constructor(session: TlsSession) {
    this.#session = session;
    session.passTo(this);
    session.pause();
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed;
  }

  start(owner: TransportOwner): void {
    this.#owner = owner;
    if (this.#session.isOpen) this.#session.resume();
    else this.#closeLater();
  }

  write(parts: readonly Buffer[]): void {
    for (const part of parts) {
      this.#session.write(part);
      writeArenas.release(part);
    }
  }

  wantOutput(): void {
    this.#session.wantOutput();
  }

  pause(): void {
    this.#session.pause();
  }

  resume(): void {
    this.#session.resume();
  }

  end(): void {
    this.#isDestroyed = true;
    this.#session.closeSoon();
    if (!this.#session.isOpen) this.#closeLater();
  }

  destroy(): void {
    if (!this.#session.isOpen) return;
    this.#isDestroyed = true;
    this.#session.close();
    this.#closeLater();
  }

  /** Of a session that is passed on: it is done. */
  onHandshake(): void {}

  onData(bytes: Buffer): void {
    this.#owner?.onBytes(bytes);
  }

  onEnd(): void {
    this.end();
  }

  onWritten(): void {
    this.#owner?.onWritten();
  }

  onOutput(): void {
    this.#owner?.onOutput();
  }

  onClosed(): void {
    this.#isDestroyed = true;
    this.#close();
  }

  /** A session that was closed tells nothing. Nor does this before its owner has returned. */
  #closeLater(): void {
    setImmediate(() => this.#close());
  }

  #close(): void {
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.onClosed();
  }
}
