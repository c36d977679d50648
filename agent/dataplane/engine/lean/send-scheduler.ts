import type { EngineStream } from './engine-stream.js';
import { frameFlag, frameType, protocolDefaults } from './frame-format.js';
import type { OutputQueue } from './output-queue.js';

/**
 * Largest DATA frame that we send, if the peer allows it. Each stream sends this much before the next has its turn, so
 * a small message waits for at most one such frame of each bulk stream.
 */
const largestDataBytes = 65_536;

/** With fewer waiting streams than this, removing closed ones is not worth the work. */
const leastCompacted = 256;

/** Chooses whose bytes are sent next, round robin: one frame of each stream that has bytes and credit. */
export class SendScheduler {
  readonly #output: OutputQueue;
  readonly #onLocalEnd: (stream: EngineStream) => void;
  #ready: EngineStream[] = [];
  #head = 0;
  /** Closed streams are removed from the list when it grows beyond this. */
  #compactAt = leastCompacted;
  /** What the peer allows us to send on the connection (RFC 9113 §5.2). */
  windowBytes: number = protocolDefaults.windowBytes;

  constructor(init: { readonly output: OutputQueue; readonly onLocalEnd: (stream: EngineStream) => void }) {
    this.#output = init.output;
    this.#onLocalEnd = init.onLocalEnd;
  }

  /** Whether any bytes may be sent. */
  get hasWork(): boolean {
    return this.windowBytes > 0 && this.#head < this.#ready.length;
  }

  /** Streams in the list, including those that were closed since. */
  get waitingStreams(): number {
    return this.#ready.length - this.#head;
  }

  /** Call when a stream received bytes or credit. */
  consider(stream: EngineStream): void {
    if (stream.isScheduled || stream.queuedBytes === 0 || stream.sendWindowBytes <= 0) return;
    stream.isScheduled = true;
    this.#ready.push(stream);
    if (this.waitingStreams > this.#compactAt) this.#compact();
  }

  /** Writes frames until the output holds `budgetBytes`, or one frame more. */
  fill(budgetBytes: number, maxFrameBytes: number): void {
    const frameBytes = Math.min(largestDataBytes, maxFrameBytes);
    while (this.hasWork && this.#output.bytes < budgetBytes) {
      const stream = this.#next();
      stream.isScheduled = false;
      if (stream.queuedBytes === 0 || stream.sendWindowBytes <= 0) continue;
      const length = Math.min(stream.queuedBytes, stream.sendWindowBytes, this.windowBytes, frameBytes);
      this.#send(stream, length, stream.isEndQueued || stream.events.isEnding);
      this.consider(stream);
    }
  }

  /** Sends a frame of this stream ahead of its turn, as large as its windows allow. */
  sendAhead(stream: EngineStream, maxFrameBytes: number): void {
    const length = Math.min(stream.queuedBytes, stream.sendWindowBytes, this.windowBytes, maxFrameBytes);
    if (length > 0) this.#send(stream, length, stream.isEndQueued);
  }

  /**
   * Sends bytes that were not queued, unless other streams wait for their turn. Returns how many of `bytes` were sent.
   */
  sendNow(
    stream: EngineStream,
    bytes: Buffer,
    limits: { readonly mostBytes: number; readonly maxFrameBytes: number },
  ): number {
    const length = Math.min(bytes.length, limits.mostBytes, stream.sendWindowBytes, this.windowBytes);
    if (length <= 0 || this.hasWork) return 0;
    for (let at = 0; at < length;) {
      const end = Math.min(length, at + limits.maxFrameBytes);
      this.#output.header(end - at, frameType.data, 0, stream.id);
      this.#output.payload(bytes.subarray(at, end));
      at = end;
    }
    stream.sendWindowBytes -= length;
    this.windowBytes -= length;
    return length;
  }

  /** Sends END_STREAM on an empty frame, which needs no credit. */
  sendEnd(stream: EngineStream): void {
    this.#output.header(0, frameType.data, frameFlag.endStream, stream.id);
    this.#onLocalEnd(stream);
  }

  /**
   * While the connection's window is empty nothing leaves the list, and a peer may open and reset streams without end.
   */
  #compact(): void {
    const open: EngineStream[] = [];
    for (const stream of this.#ready.slice(this.#head)) {
      if (stream.isClosed) stream.isScheduled = false;
      else open.push(stream);
    }
    this.#ready = open;
    this.#head = 0;
    this.#compactAt = Math.max(leastCompacted, 2 * open.length);
  }

  #next(): EngineStream {
    const stream = this.#ready[this.#head]!;
    this.#head += 1;
    if (this.#head === this.#ready.length) {
      this.#ready = [];
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#ready = this.#ready.slice(this.#head);
      this.#head = 0;
    }
    return stream;
  }

  #send(stream: EngineStream, length: number, isEnding: boolean): void {
    const isLast = isEnding && length === stream.queuedBytes;
    this.#output.header(length, frameType.data, isLast ? frameFlag.endStream : 0, stream.id);
    this.#moveBytes(stream, length);
    stream.sendWindowBytes -= length;
    this.windowBytes -= length;
    if (isLast) this.#onLocalEnd(stream);
    if (stream.queuedBytes === 0) stream.events.onTaken();
  }

  #moveBytes(stream: EngineStream, length: number): void {
    let left = length;
    while (left > 0) {
      const chunk = stream.queue[stream.queueHead]!;
      const rest = chunk.length - stream.headOffset;
      if (rest > left) {
        this.#output.payload(chunk.subarray(stream.headOffset, stream.headOffset + left));
        stream.headOffset += left;
        break;
      }
      this.#output.payload(stream.headOffset === 0 ? chunk : chunk.subarray(stream.headOffset));
      left -= rest;
      stream.queueHead += 1;
      stream.headOffset = 0;
    }
    stream.queuedBytes -= length;
    if (stream.queueHead === stream.queue.length) stream.dropQueue();
  }
}
