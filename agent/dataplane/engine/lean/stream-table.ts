import type { EngineLimits } from './engine-limits.js';
import { EngineStream } from './engine-stream.js';
import { errorCode } from '../http2-error-code.js';
import type { FloodGuard } from './flood-guard.js';
import { largestStreamId } from './frame-format.js';
import type { FrameWriter } from './frame-writer.js';
import type { PeerSettings } from './peer-settings.js';
import { StreamWindow } from './stream-window.js';
import { WindowAllowance } from './window-allowance.js';

const mostResetIds = 256;

/** The streams of a connection and the ways in which they end (RFC 9113 §5.1). */
export class StreamTable {
  readonly #isServer: boolean;
  readonly #writer: FrameWriter;
  readonly #guard: FloodGuard;
  readonly #peer: PeerSettings;
  readonly #onEmpty: () => void;
  readonly #allowance: WindowAllowance;
  readonly #open = new Map<number, EngineStream>();
  #nextOwnId = 1;
  #lastPeerId = 0;
  /** Streams that we reset recently; the peer may not know yet. */
  readonly #resetIds = new Set<number>();

  constructor(init: {
    readonly isServer: boolean;
    readonly limits: EngineLimits;
    readonly writer: FrameWriter;
    readonly guard: FloodGuard;
    readonly peer: PeerSettings;
    readonly onEmpty: () => void;
    /** Monotonic. */
    readonly nowMs: () => number;
  }) {
    this.#isServer = init.isServer;
    this.#writer = init.writer;
    this.#guard = init.guard;
    this.#peer = init.peer;
    this.#onEmpty = init.onEmpty;
    const { firstWindowBytes, streamWindowBytes, connectionWindowBytes } = init.limits;
    this.#allowance = new WindowAllowance({
      firstBytes: firstWindowBytes,
      mostBytes: streamWindowBytes,
      totalBytes: connectionWindowBytes,
      nowMs: init.nowMs,
    });
  }

  get size(): number {
    return this.#open.size;
  }

  /** The newest stream that the peer opened; GOAWAY carries it. */
  get lastPeerId(): number {
    return this.#lastPeerId;
  }

  get(id: number): EngineStream | undefined {
    return this.#open.get(id);
  }

  all(): IterableIterator<EngineStream> {
    return this.#open.values();
  }

  /** Whether the stream was never opened (RFC 9113 §5.1.1). A stream that is neither idle nor open is closed. */
  isIdle(id: number): boolean {
    const isClients = (id & 1) === 1;
    if (!isClients) return true;
    return this.#isServer ? id > this.#lastPeerId : id >= this.#nextOwnId;
  }

  /** Opens a client's next stream; null if all identifiers are used up. */
  openOwn(): EngineStream | null {
    const id = this.#nextOwnId;
    if (id > largestStreamId) return null;
    this.#nextOwnId += 2;
    return this.#make(id, false);
  }

  /** The peer has used this identifier, whether or not it gets a stream. */
  notePeerId(id: number): void {
    this.#lastPeerId = id;
  }

  openPeers(id: number, isTunnel: boolean): EngineStream {
    return this.#make(id, isTunnel);
  }

  endLocal(stream: EngineStream): void {
    stream.isLocalEnded = true;
    if (stream.isRemoteEnded) this.#close(stream);
  }

  endRemote(stream: EngineStream): void {
    stream.isRemoteEnded = true;
    if (stream.isLocalEnded) this.#close(stream);
    stream.events.onEnd();
  }

  /** RST_STREAM from our side; no event. */
  reset(stream: EngineStream, code: number): void {
    if (stream.isClosed) return;
    this.#writeReset(stream.id, code);
    this.#close(stream);
  }

  /** The peer's RST_STREAM, or its GOAWAY. */
  end(stream: EngineStream, code: number): void {
    this.#close(stream);
    stream.events.onReset(code);
  }

  /** The peer violated a rule on this stream (RFC 9113 §5.4.2). */
  fail(stream: EngineStream, code: number): void {
    this.reset(stream, code);
    stream.events.onReset(code);
    this.#guard.count('violation');
  }

  /** Like {@link fail}, for a stream that was not opened. */
  refuse(id: number, code: number): void {
    this.#writeReset(id, code);
    this.#guard.count('violation');
  }

  /** The connection has ended. */
  abandon(code: number): void {
    const streams = [...this.#open.values()];
    for (const stream of streams) {
      if (!stream.isClosed) this.end(stream, code);
    }
  }

  /** Our own streams that the peer says it has not processed (RFC 9113 §6.8). */
  refuseAbove(lastId: number): void {
    const refused = [...this.#open.values()].filter(({ id }) => id > lastId);
    for (const stream of refused) {
      if (!stream.isClosed) this.end(stream, errorCode.refusedStream);
    }
  }

  /** We reset it recently, so anything may still arrive on it (RFC 9113 §5.1). */
  wasReset(id: number): boolean {
    return this.#resetIds.has(id);
  }

  #writeReset(id: number, code: number): void {
    this.#writer.rstStream(id, code);
    this.#resetIds.add(id);
    if (this.#resetIds.size <= mostResetIds) return;
    for (const oldest of this.#resetIds) {
      this.#resetIds.delete(oldest);
      break;
    }
  }

  #make(id: number, isTunnel: boolean): EngineStream {
    const stream = new EngineStream({
      id,
      isTunnel,
      sendWindowBytes: this.#peer.initialWindowBytes,
      receiveWindow: new StreamWindow({ allowance: this.#allowance }),
    });
    this.#open.set(id, stream);
    return stream;
  }

  #close(stream: EngineStream): void {
    stream.isClosed = true;
    stream.dropQueue();
    stream.receiveWindow.close();
    this.#open.delete(stream.id);
    if (this.#open.size === 0) this.#onEmpty();
  }
}
