import { Duplex } from 'node:stream';
import type { TunnelStream } from '../tunnel-stream.js';
import { WaitingBlock } from '../../sockets/waiting-block.js';
import type { EngineConnection } from './engine-connection.js';
import type { EngineStream, EngineStreamEvents } from './engine-stream.js';
import { errorCode, errorCodeName } from '../http2-error-code.js';
import type { HeaderMap } from './header-rules.js';
import type { HeaderFields } from './hpack/hpack-encoder.js';
import { SmallChunks, smallChunkBytes } from './small-chunks.js';

/** What a stream needs from its session. */
export type StreamHome = {
  readonly engine: EngineConnection;
  /** New output is available; `bytes` of it are data. */
  readonly scheduleFlush: (bytes?: number) => void;
};

type WriteCallback = (error?: Error | null) => void;

/**
 * A stream of the lean engine as a `Duplex`. Credit goes to the peer when the reader has consumed the bytes. A write
 * completes when its bytes have moved to the session's output, so the writer bounds what waits. Event `response`: the
 * client's stream received its response.
 */
export class LeanStream extends Duplex implements TunnelStream, EngineStreamEvents {
  readonly #home: StreamHome;
  readonly #stream: EngineStream;
  /** Received and not yet credited bytes: they wait in the readable side's buffer. */
  #uncredited = 0;
  #onTaken: WriteCallback | undefined;
  #reader: ((bytes: Buffer) => void) | null = null;
  /** Lent pieces that wait in the readable side's buffer, in order. */
  #lent: { readonly piece: Buffer; readonly block: WaitingBlock }[] | undefined;
  #block: WaitingBlock | undefined;
  /** The last bytes that wait for the reader; empty unless the readable side's buffer holds something. */
  #small: SmallChunks | undefined;
  /** The peer has ended in order and no longer reads. */
  #isDeaf = false;
  /** Bytes passed to the engine that it has not all taken yet. */
  #underWay = 0;
  #resetCode: number | undefined;
  /** Returns why the tunnel died; empty while it lives. */
  deathOfTunnel: () => string = () => '';

  constructor(init: { readonly home: StreamHome; readonly stream: EngineStream }) {
    super();
    this.#home = init.home;
    this.#stream = init.stream;
  }

  get rstCode(): number {
    return this.#resetCode ?? errorCode.noError;
  }

  get wasReset(): boolean {
    return this.#resetCode !== undefined;
  }

  get resetDetail(): string {
    if (this.#resetCode === undefined) return '';
    const death = this.deathOfTunnel();
    return death === '' ? `RST_STREAM ${errorCodeName(this.#resetCode)}` : death;
  }

  get isTunnelLost(): boolean {
    return this.wasReset && this.deathOfTunnel() !== '';
  }

  get isGone(): boolean {
    return this.closed;
  }

  reset(code: number = errorCode.connectError): void {
    const { engine } = this.#home;
    if (!this.#stream.isClosed) engine.sendAhead(this.#stream);
    if (!this.#stream.isClosed) {
      this.#resetCode = code;
      engine.reset(this.#stream, code);
    }
    this.#home.scheduleFlush();
    this.destroy();
  }

  /** A server's response. */
  respond(headers: Readonly<Record<string, string | number>>, options?: { readonly endStream: boolean }): void {
    const fields: HeaderFields = Object.entries(headers).map(([name, value]) => [name, String(value)]);
    const isEnd = options?.endStream ?? false;
    this.#home.engine.respond(this.#stream, fields, isEnd);
    this.#home.scheduleFlush();
    if (isEnd) this.end();
  }

  lendTo(reader: (bytes: Buffer) => void): void {
    this.#reader = reader;
  }

  writeNow(bytes: Buffer): number {
    if (this.writableLength > 0 || this.writableEnded || this.destroyed || this.#isDeaf) return 0;
    const sent = this.#home.engine.writeNow(this.#stream, bytes);
    if (sent > 0) this.#home.scheduleFlush(sent);
    return sent;
  }

  onResponse(headers: HeaderMap): void {
    this.emit('response', headers);
  }

  onData(chunk: Buffer): void {
    const { engine } = this.#home;
    // The streams' windows bound memory. If the connection's window were held back too, a few unread streams would stop
    // all others.
    engine.creditConnection(chunk.length);
    // Directly to a reader that keeps up: the readable side's own path costs more than everything else here.
    if (this.readableFlowing === true && this.readableLength === 0 && this.readableEncoding === null) {
      if (this.#reader === null) this.emit('data', Buffer.from(chunk));
      else this.#reader(chunk);
      engine.credit(this.#stream, chunk.length, 0);
      return;
    }
    this.#uncredited += chunk.length;
    if (chunk.length < smallChunkBytes && this.readableLength > 0) {
      this.#small ??= new SmallChunks();
      const full = this.#small.add(chunk);
      if (full !== null) this.push(full);
      return;
    }
    this.#pushSmall();
    if (this.#reader === null) this.push(ownCopy(chunk));
    else this.#pushLent(chunk);
    this.#creditConsumed();
  }

  onEnd(): void {
    this.#pushSmall();
    this.push(null);
  }

  onReset(code: number): void {
    // What came before an orderly end must not be lost (RFC 9113 §8.1).
    if (code === errorCode.noError && this.#stream.isRemoteEnded && this.#onTaken === undefined) {
      this.#isDeaf = true;
      return;
    }
    this.#resetCode = code;
    this.destroy();
  }

  onTaken(): void {
    const callback = this.#onTaken;
    this.#onTaken = undefined;
    callback?.();
  }

  get isEnding(): boolean {
    return this.writableEnded && this.writableLength === this.#underWay;
  }

  override read(size?: number): unknown {
    const isFlowing = this.readableFlowing === true;
    const chunk: unknown = super.read(size);
    if (this.#lent?.[0]?.piece === chunk) {
      const lent = this.#lent?.shift();
      // The `data` listeners have returned. A caller of `read()` may keep its piece.
      if (isFlowing) lent?.block.onTaken();
    }
    if (this.#uncredited > 0) {
      this.#creditConsumed();
      if (this.readableLength === 0 && !this.destroyed) this.#pushSmall();
    }
    return chunk;
  }

  override _read(): void {
    // Data arrives by itself while there is credit.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: WriteCallback): void {
    if (this.#isDeaf) {
      this.#breakOff();
      return;
    }
    this.#onTaken = callback;
    this.#underWay = chunk.length;
    this.#home.engine.write(this.#stream, chunk);
    this.#sent();
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], callback: WriteCallback): void {
    if (this.#isDeaf) {
      this.#breakOff();
      return;
    }
    this.#onTaken = callback;
    this.#underWay = this.writableLength;
    for (const { chunk } of chunks) this.#home.engine.write(this.#stream, chunk);
    this.#sent();
  }

  override _final(callback: WriteCallback): void {
    this.#home.engine.end(this.#stream);
    if (this.#home.engine.hasOutput) this.#home.scheduleFlush();
    callback();
  }

  override _destroy(error: Error | null, callback: WriteCallback): void {
    if (!this.#stream.isClosed) {
      this.#resetCode ??= errorCode.cancel;
      this.#home.engine.reset(this.#stream, errorCode.cancel);
      this.#home.scheduleFlush();
    }
    callback(error);
  }

  #sent(): void {
    // Only empty chunks: no event will follow.
    if (this.#stream.queuedBytes === 0) this.onTaken();
    else this.#home.scheduleFlush(this.#stream.queuedBytes);
  }

  #breakOff(): void {
    this.#resetCode = errorCode.noError;
    this.destroy();
  }

  /**
   * Reuses blocks: allocating for each piece would make V8 mark the whole heap several times a second when many pieces
   * wait briefly.
   */
  #pushLent(chunk: Buffer): void {
    this.#lent ??= [];
    for (let at = 0; at < chunk.length;) {
      if (this.#block?.hasRoomFor(this) !== true) this.#block = WaitingBlock.for(this);
      at += this.#block.add(at === 0 ? chunk : chunk.subarray(at));
      const piece = this.#block.take();
      this.#lent.push({ piece, block: this.#block });
      this.push(piece);
    }
  }

  #pushSmall(): void {
    const held = this.#small?.take() ?? null;
    if (held !== null) this.push(held);
  }

  #creditConsumed(): void {
    const waiting = this.readableLength + (this.#small?.length ?? 0);
    const consumed = this.#uncredited - waiting;
    if (consumed <= 0) return;
    this.#uncredited = waiting;
    this.#home.engine.credit(this.#stream, consumed, waiting);
    if (this.#home.engine.hasOutput) this.#home.scheduleFlush();
  }
}

/** For bytes that may wait: a slice of Node's pool would keep all 64 KiB of it alive (8 KiB before Node 24). */
function ownCopy(chunk: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(chunk.length);
  chunk.copy(copy);
  return copy;
}
