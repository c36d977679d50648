import { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineStream } from './engine-stream.js';
import { errorCode } from '../http2-error-code.js';
import type { FloodGuard } from './flood-guard.js';
import { frameFlag } from './frame-format.js';
import type { FrameWriter } from './frame-writer.js';
import type { ReceiveWindow } from './receive-window.js';
import type { StreamTable } from './stream-table.js';

/** DATA frames and their flow control (RFC 9113 §5.2, §6.1, §6.9.1). */
export class IncomingData {
  readonly #table: StreamTable;
  readonly #guard: FloodGuard;
  readonly #writer: FrameWriter;
  readonly #window: ReceiveWindow;
  readonly #isServer: boolean;
  /** The stream of the current frame; null: its data is discarded. */
  #stream: EngineStream | null = null;
  #isEnd = false;
  #length = 0;

  constructor(init: {
    readonly isServer: boolean;
    readonly table: StreamTable;
    readonly guard: FloodGuard;
    readonly writer: FrameWriter;
    readonly window: ReceiveWindow;
  }) {
    this.#isServer = init.isServer;
    this.#table = init.table;
    this.#guard = init.guard;
    this.#writer = init.writer;
    this.#window = init.window;
  }

  begin(streamId: number, flags: number, length: number): void {
    if (streamId === 0) throw violation(errorCode.protocolError, 'DATA on stream 0');
    // The bytes count for the connection, whatever happens to the stream (§6.9).
    if (!this.#window.take(length)) throw violation(errorCode.flowControlError, 'more than the connection window');
    this.#isEnd = (flags & frameFlag.endStream) !== 0;
    this.#length = length;
    if (length === 0 && !this.#isEnd) this.#guard.count('emptyFrame');
    const stream = this.#table.get(streamId);
    if (stream === undefined) {
      if (this.#table.isIdle(streamId)) throw violation(errorCode.protocolError, 'DATA on an idle stream');
      this.#stream = null;
      return;
    }
    this.#stream = this.#mayReceive(stream, length) ? stream : null;
  }

  chunk(chunk: Buffer): void {
    const stream = this.#stream;
    if (stream === null || stream.isClosed) this.creditConnection(chunk.length);
    else stream.events.onData(chunk);
  }

  finish(paddingBytes: number): void {
    const stream = this.#stream;
    this.#stream = null;
    if (paddingBytes > 0) {
      if (paddingBytes === this.#length && !this.#isEnd) this.#guard.count('emptyFrame');
      this.creditConnection(paddingBytes);
      // Counts as waiting, because padding proves no reading and must not make the window grow.
      if (stream !== null) this.credit(stream, paddingBytes, 1);
    }
    if (this.#isEnd && stream !== null && !stream.isClosed) this.#table.endRemote(stream);
  }

  credit(stream: EngineStream, bytes: number, waitingBytes: number): void {
    if (stream.isClosed || stream.isRemoteEnded) return;
    const announced = stream.receiveWindow.credit(bytes, waitingBytes);
    if (announced > 0) this.#writer.windowUpdate(stream.id, announced);
  }

  creditConnection(bytes: number): void {
    const announced = this.#window.credit(bytes);
    if (announced > 0) this.#writer.windowUpdate(0, announced);
  }

  /** Fails the stream if its state or its window does not allow the frame. */
  #mayReceive(stream: EngineStream, length: number): boolean {
    if (stream.isRemoteEnded) this.#table.fail(stream, errorCode.streamClosed);
    else if (!this.#isServer && !stream.isAnswered) this.#table.fail(stream, errorCode.protocolError);
    else if (!stream.receiveWindow.take(length)) this.#table.fail(stream, errorCode.flowControlError);
    else return true;
    return false;
  }
}

function violation(code: number, detail: string): ConnectionViolation {
  return new ConnectionViolation({ code, detail });
}
