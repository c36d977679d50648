import { ConnectionViolation } from './hpack/connection-violation.js';
import { errorCode } from '../http2-error-code.js';
import { frameFlag, frameHeaderBytes, frameType } from './frame-format.js';

/**
 * Receives the parser's results, in order. Every method may throw a {@link ConnectionViolation}; nothing is parsed
 * after that.
 */
export interface FrameHandler {
  /** A frame begins; its type may be unknown. */
  onFrameBegin(type: number, flags: number, streamId: number, length: number): void;
  /** `length` includes padding, as in flow control (RFC 9113 §6.9.1). */
  onDataBegin(streamId: number, flags: number, length: number): void;
  /** A piece of the payload without padding: a view of what was passed to `push`, not a copy. */
  onDataChunk(chunk: Buffer): void;
  /** `paddingBytes`: the part of the length that was not payload. */
  onDataFinish(paddingBytes: number): void;
  /** Any other frame of RFC 9113, complete. `payload` is valid only during the call. */
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void;
}

type State = 'header' | 'data' | 'padLength' | 'payload' | 'skip';

/**
 * Largest frame other than DATA. DATA is forwarded as it arrives; other frames are buffered until they are complete. No
 * frame that a tunnel needs comes near this size.
 */
const largestControlFrameBytes = 65_536;
const noBytes = Buffer.alloc(0);

/** Splits a byte stream, cut anywhere, into frames (RFC 9113 §4). Copies only frames that arrive in several pieces. */
export class FrameParser {
  readonly #handler: FrameHandler;
  readonly #maxFrameBytes: number;
  readonly #headersWeight: number;
  /** A frame header that arrives in pieces. */
  readonly #partial = Buffer.alloc(frameHeaderBytes);
  #partialBytes = 0;
  #state: State = 'header';
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Unread bytes of the current frame. */
  #left = 0;
  #padBytes = 0;
  #paddingBytes = 0;
  #collected: Buffer = noBytes;
  #collectedBytes = 0;
  #isStopped = false;
  #begun = 0;

  /** `maxFrameBytes`: our SETTINGS_MAX_FRAME_SIZE. `headersWeight`: how many frames HEADERS count as; default: one. */
  constructor(init: {
    readonly handler: FrameHandler;
    readonly maxFrameBytes: number;
    readonly headersWeight?: number;
  }) {
    this.#handler = init.handler;
    this.#maxFrameBytes = init.maxFrameBytes;
    this.#headersWeight = init.headersWeight ?? 1;
  }

  /** Stops before the next frame when `mostFrames` have begun. Returns how many bytes it took. */
  push(chunk: Buffer, mostFrames = Number.POSITIVE_INFINITY): number {
    const last = this.#begun + mostFrames;
    let at = 0;
    while (at < chunk.length && (this.#begun < last || this.#state !== 'header')) {
      if (this.#isStopped) return chunk.length;
      at = this.#step(chunk, at);
    }
    return at;
  }

  /** Frames that have begun, by their weights. */
  get begun(): number {
    return this.#begun;
  }

  /** Stops parsing, including the chunk that is being pushed. */
  stop(): void {
    this.#isStopped = true;
  }

  #step(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case 'header':
        return this.#readHeader(chunk, at);
      case 'data':
        return this.#readData(chunk, at);
      case 'padLength':
        return this.#readPadLength(chunk, at);
      case 'payload':
        return this.#readPayload(chunk, at);
      case 'skip':
        return this.#skip(chunk, at);
    }
  }

  #readHeader(chunk: Buffer, at: number): number {
    if (this.#partialBytes === 0 && chunk.length - at >= frameHeaderBytes) {
      this.#begin(chunk, at);
      return at + frameHeaderBytes;
    }
    const taken = Math.min(frameHeaderBytes - this.#partialBytes, chunk.length - at);
    chunk.copy(this.#partial, this.#partialBytes, at, at + taken);
    this.#partialBytes += taken;
    if (this.#partialBytes === frameHeaderBytes) {
      this.#partialBytes = 0;
      this.#begin(this.#partial, 0);
    }
    return at + taken;
  }

  #begin(bytes: Buffer, at: number): void {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const type = bytes[at + 3]!;
    const flags = bytes[at + 4]!;
    const streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
    if (length > this.#maxFrameBytes) throw tooLong(length, this.#maxFrameBytes);
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    this.#left = length;
    this.#begun += type === frameType.headers ? this.#headersWeight : 1;
    this.#handler.onFrameBegin(type, flags, streamId, length);
    if (type === frameType.data) this.#beginData(length);
    else if (type > frameType.continuation) this.#state = length === 0 ? 'header' : 'skip';
    else this.#beginPayload(length);
  }

  #beginData(length: number): void {
    this.#handler.onDataBegin(this.#streamId, this.#flags, length);
    this.#padBytes = 0;
    this.#paddingBytes = 0;
    if ((this.#flags & frameFlag.padded) !== 0) {
      if (length === 0) {
        throw new ConnectionViolation({ code: errorCode.frameSizeError, detail: 'padded DATA without a pad length' });
      }
      this.#state = 'padLength';
    } else if (length === 0) this.#finishData();
    else this.#state = 'data';
  }

  #readPadLength(chunk: Buffer, at: number): number {
    const padBytes = chunk[at]!;
    if (padBytes >= this.#left) {
      throw new ConnectionViolation({ code: errorCode.protocolError, detail: 'padding as long as its DATA frame' });
    }
    this.#left -= 1;
    this.#padBytes = padBytes;
    this.#paddingBytes = padBytes + 1;
    if (this.#left === 0) this.#finishData();
    else this.#state = 'data';
    return at + 1;
  }

  #readData(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    const content = this.#left - this.#padBytes;
    if (content > 0) {
      const taken = content < available ? content : available;
      this.#left -= taken;
      this.#handler.onDataChunk(taken === chunk.length ? chunk : chunk.subarray(at, at + taken));
      if (this.#left === 0) this.#finishData();
      return at + taken;
    }
    const skipped = Math.min(this.#left, available);
    this.#left -= skipped;
    this.#padBytes -= skipped;
    if (this.#left === 0) this.#finishData();
    return at + skipped;
  }

  #finishData(): void {
    this.#state = 'header';
    this.#handler.onDataFinish(this.#paddingBytes);
  }

  #beginPayload(length: number): void {
    if (length > largestControlFrameBytes) throw tooLong(length, largestControlFrameBytes);
    this.#collectedBytes = 0;
    if (length > 0) {
      this.#state = 'payload';
      return;
    }
    this.#state = 'header';
    this.#handler.onFrame(this.#type, this.#flags, this.#streamId, noBytes);
  }

  #readPayload(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    if (this.#collectedBytes === 0 && available >= this.#left) {
      const end = at + this.#left;
      this.#state = 'header';
      this.#handler.onFrame(this.#type, this.#flags, this.#streamId, chunk.subarray(at, end));
      return end;
    }
    if (this.#collectedBytes === 0) this.#collected = Buffer.allocUnsafe(this.#left);
    const taken = Math.min(this.#left, available);
    chunk.copy(this.#collected, this.#collectedBytes, at, at + taken);
    this.#collectedBytes += taken;
    this.#left -= taken;
    if (this.#left === 0) {
      const payload = this.#collected;
      this.#collected = noBytes;
      this.#state = 'header';
      this.#handler.onFrame(this.#type, this.#flags, this.#streamId, payload);
    }
    return at + taken;
  }

  #skip(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#left, chunk.length - at);
    this.#left -= taken;
    if (this.#left === 0) this.#state = 'header';
    return at + taken;
  }
}

function tooLong(length: number, limit: number): ConnectionViolation {
  return new ConnectionViolation({
    code: errorCode.frameSizeError,
    detail: `a frame of ${length} bytes, limit ${limit}`,
  });
}
