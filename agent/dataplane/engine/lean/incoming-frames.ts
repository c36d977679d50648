import { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineEvents } from './engine-events.js';
import { errorCode } from '../http2-error-code.js';
import type { FloodGuard } from './flood-guard.js';
import { frameFlag, frameType, largestWindowBytes } from './frame-format.js';
import type { FrameHandler } from './frame-parser.js';
import type { FrameWriter } from './frame-writer.js';
import { HeaderBlocks, type HeaderBlock } from './header-blocks.js';
import type { IncomingData } from './incoming-data.js';
import type { IncomingHeaders } from './incoming-headers.js';
import type { PeerSettings } from './peer-settings.js';
import type { SendScheduler } from './send-scheduler.js';
import type { StreamTable } from './stream-table.js';

export type IncomingParts = {
  readonly isServer: boolean;
  readonly events: EngineEvents;
  readonly table: StreamTable;
  readonly guard: FloodGuard;
  readonly writer: FrameWriter;
  readonly scheduler: SendScheduler;
  readonly peer: PeerSettings;
  readonly data: IncomingData;
  readonly headers: IncomingHeaders;
  /** The octets of an answer to a PING. */
  readonly onPong: (octets: Buffer) => void;
};

/** The rules of RFC 9113 §6 for each frame type. Throws {@link ConnectionViolation}s. */
export class IncomingFrames implements FrameHandler {
  readonly #init: IncomingParts;
  readonly #blocks = new HeaderBlocks();
  #hasSettings = false;
  /** The peer has sent GOAWAY. */
  isPeerLeaving = false;

  constructor(init: IncomingParts) {
    this.#init = init;
  }

  onFrameBegin(type: number, flags: number, streamId: number, _length: number): void {
    if (!this.#hasSettings && (type !== frameType.settings || (flags & frameFlag.ack) !== 0)) {
      throw protocolError('the first frame is not SETTINGS');
    }
    const { openStreamId } = this.#blocks;
    if (type === frameType.continuation) {
      if (openStreamId === 0 || streamId !== openStreamId) throw protocolError('CONTINUATION out of place');
    } else if (openStreamId !== 0) throw protocolError('another frame within a header block');
    if (type > frameType.continuation) this.#init.guard.count('emptyFrame');
  }

  onDataBegin(streamId: number, flags: number, length: number): void {
    this.#init.data.begin(streamId, flags, length);
  }

  onDataChunk(chunk: Buffer): void {
    this.#init.data.chunk(chunk);
  }

  onDataFinish(paddingBytes: number): void {
    this.#init.data.finish(paddingBytes);
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    switch (type) {
      case frameType.windowUpdate:
        this.#onWindowUpdate(streamId, payload);
        return;
      case frameType.headers:
        if (streamId === 0) throw protocolError('HEADERS on stream 0');
        this.#onBlock(this.#blocks.begin(flags, streamId, payload));
        return;
      case frameType.continuation:
        this.#onBlock(this.#blocks.continue(flags, payload));
        return;
      case frameType.rstStream:
        this.#onRstStream(streamId, payload);
        return;
      case frameType.settings:
        this.#onSettings(flags, streamId, payload);
        return;
      case frameType.ping:
        this.#onPing(flags, streamId, payload);
        return;
      case frameType.goaway:
        this.#onGoaway(streamId, payload);
        return;
      case frameType.priority:
        this.#onPriority(streamId, payload);
        return;
      default:
        // We announce ENABLE_PUSH 0, and a client must never send it (§8.4).
        throw protocolError('PUSH_PROMISE');
    }
  }

  #onBlock(block: HeaderBlock | null): void {
    if (block !== null) this.#init.headers.receive(block);
  }

  /** §6.9. */
  #onWindowUpdate(streamId: number, payload: Buffer): void {
    requireLength(payload, 4);
    const { table, scheduler } = this.#init;
    const increment = payload.readUInt32BE() & largestWindowBytes;
    if (streamId === 0) {
      if (increment === 0) throw protocolError('WINDOW_UPDATE of 0');
      scheduler.windowBytes += increment;
      if (scheduler.windowBytes > largestWindowBytes) throw windowOverflow();
      return;
    }
    const stream = table.get(streamId);
    if (stream === undefined) {
      if (table.isIdle(streamId)) throw protocolError('WINDOW_UPDATE on an idle stream');
      return;
    }
    if (increment === 0) {
      table.fail(stream, errorCode.protocolError);
      return;
    }
    stream.sendWindowBytes += increment;
    if (stream.sendWindowBytes > largestWindowBytes) table.fail(stream, errorCode.flowControlError);
    else scheduler.consider(stream);
  }

  /** §6.4. */
  #onRstStream(streamId: number, payload: Buffer): void {
    if (streamId === 0) throw protocolError('RST_STREAM on stream 0');
    requireLength(payload, 4);
    const { table, guard, isServer } = this.#init;
    if (table.isIdle(streamId)) throw protocolError('RST_STREAM on an idle stream');
    const stream = table.get(streamId);
    if (stream !== undefined) table.end(stream, payload.readUInt32BE());
    if (isServer) guard.count('reset');
  }

  /** §6.5. */
  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolError('SETTINGS on a stream');
    if ((flags & frameFlag.ack) !== 0) {
      requireLength(payload, 0);
      return;
    }
    const { peer, writer, events, guard } = this.#init;
    guard.count('question');
    const before = peer.initialWindowBytes;
    peer.apply(payload);
    this.#hasSettings = true;
    if (peer.initialWindowBytes !== before) this.#moveWindows(peer.initialWindowBytes - before);
    writer.settingsAck();
    events.onSettings();
  }

  /** §6.9.2. */
  #moveWindows(difference: number): void {
    const { table, scheduler } = this.#init;
    for (const stream of table.all()) {
      stream.sendWindowBytes += difference;
      if (stream.sendWindowBytes > largestWindowBytes) throw windowOverflow();
      scheduler.consider(stream);
    }
  }

  /** §6.7. */
  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolError('PING on a stream');
    requireLength(payload, 8);
    if ((flags & frameFlag.ack) !== 0) {
      this.#init.onPong(payload);
      return;
    }
    this.#init.guard.count('question');
    this.#init.writer.ping(true, payload);
  }

  /** §6.8. */
  #onGoaway(streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolError('GOAWAY on a stream');
    if (payload.length < 8) throw wrongLength();
    const { table, events, isServer, guard } = this.#init;
    guard.count('question');
    this.isPeerLeaving = true;
    if (!isServer) table.refuseAbove(payload.readUInt32BE() & largestWindowBytes);
    events.onGoaway(payload.readUInt32BE(4), Buffer.from(payload.subarray(8)));
  }

  /** §5.3.2, §6.3: validated and ignored. */
  #onPriority(streamId: number, payload: Buffer): void {
    if (streamId === 0) throw protocolError('PRIORITY on stream 0');
    const { table, guard } = this.#init;
    guard.count('emptyFrame');
    if (payload.length === 5) return;
    const stream = table.get(streamId);
    if (stream === undefined) throw wrongLength();
    table.fail(stream, errorCode.frameSizeError);
  }
}

function requireLength(payload: Buffer, length: number): void {
  if (payload.length !== length) throw wrongLength();
}

function wrongLength(): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.frameSizeError, detail: 'a frame of the wrong length' });
}

function windowOverflow(): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.flowControlError, detail: 'a window larger than 2^31 - 1' });
}

function protocolError(detail: string): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.protocolError, detail });
}
