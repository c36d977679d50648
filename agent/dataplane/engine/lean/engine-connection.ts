import { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineEvents } from './engine-events.js';
import type { EngineLimits } from './engine-limits.js';
import type { EngineStream, EngineStreamEvents } from './engine-stream.js';
import { errorCode } from '../http2-error-code.js';
import { FloodGuard } from './flood-guard.js';
import { clientPreface, protocolDefaults } from './frame-format.js';
import { FrameParser } from './frame-parser.js';
import { FrameWriter } from './frame-writer.js';
import type { HeaderFields } from './hpack/hpack-encoder.js';
import { IncomingData } from './incoming-data.js';
import { IncomingFrames } from './incoming-frames.js';
import { IncomingHeaders } from './incoming-headers.js';
import { OutputQueue } from './output-queue.js';
import { PeerSettings } from './peer-settings.js';
import { ReceiveWindow } from './receive-window.js';
import { SendScheduler } from './send-scheduler.js';
import { StreamTable } from './stream-table.js';

/** Our PINGs carry eight octets: this name and a number, which distinguishes the answer to one from noise. */
const pingName = Buffer.from('clvt', 'latin1');
/** Answers that the peer has not read. With more than this it is flooding us without reading. */
const mostOwedBytes = 262_144;
/** A request costs the time of eight frames with bytes of a stream: an object for it, a place, the decision. */
const requestWeight = 8;
/** With this much unread output, a reset is sent without the data before it. */
const mostAheadBytes = 262_144;

/**
 * One HTTP/2 connection (RFC 9113) that carries CONNECT streams, without I/O: bytes in through {@link receive}, bytes
 * out through {@link pull}, events in between. Supports only what tunnels need: no push and no priorities.
 */
export class EngineConnection {
  readonly #events: EngineEvents;
  readonly #output = new OutputQueue();
  readonly #writer: FrameWriter;
  readonly #peer: PeerSettings;
  readonly #table: StreamTable;
  readonly #scheduler: SendScheduler;
  readonly #data: IncomingData;
  readonly #headers: IncomingHeaders;
  readonly #frames: IncomingFrames;
  readonly #parser: FrameParser;
  /** Bytes of the client preface that have not arrived yet. */
  #prefaceLeft: number;
  #isDead = false;
  #pingsSent = 0;
  #pingsAnswered = 0;
  /** The last stream in our first GOAWAY; a later GOAWAY must not increase it (RFC 9113 §6.8). */
  #goawayLastId: number | null = null;

  /** `nowMs` is monotonic; it measures floods and slow readers. */
  constructor(init: {
    readonly role: 'client' | 'server';
    readonly limits: EngineLimits;
    readonly events: EngineEvents;
    readonly nowMs: () => number;
  }) {
    const { limits, events, nowMs } = init;
    const isServer = init.role === 'server';
    const guard = new FloodGuard({ nowMs });
    const writer = new FrameWriter({ output: this.#output });
    const peer = new PeerSettings({ isServer: !isServer });
    const onEmpty = (): void => events.onStreamsGone();
    const table = new StreamTable({ isServer, limits, writer, guard, peer, onEmpty, nowMs });
    const window = new ReceiveWindow({
      windowBytes: limits.connectionWindowBytes,
      availableBytes: protocolDefaults.windowBytes,
    });
    this.#events = events;
    this.#writer = writer;
    this.#peer = peer;
    this.#table = table;
    this.#scheduler = new SendScheduler({ output: this.#output, onLocalEnd: (stream) => table.endLocal(stream) });
    this.#data = new IncomingData({ isServer, table, guard, writer, window });
    this.#headers = new IncomingHeaders({ isServer, limits, table, guard, events });
    this.#frames = new IncomingFrames({
      isServer,
      events,
      table,
      guard,
      writer,
      scheduler: this.#scheduler,
      peer,
      data: this.#data,
      headers: this.#headers,
      onPong: (octets) => this.#receivePong(octets),
    });
    this.#parser = new FrameParser({
      handler: this.#frames,
      maxFrameBytes: limits.maxFrameBytes,
      headersWeight: isServer ? requestWeight : 1,
    });
    this.#prefaceLeft = isServer ? clientPreface.length : 0;
    writer.preface({ isServer, limits });
    this.#data.creditConnection(0);
  }

  get streamCount(): number {
    return this.#table.size;
  }

  /** Number of streams whose bytes wait for their turn. */
  get waitingStreams(): number {
    return this.#scheduler.waitingStreams;
  }

  /** How many concurrent streams the peer's SETTINGS allow us. */
  get maxOwnStreams(): number {
    return this.#peer.maxConcurrentStreams;
  }

  /** Whether {@link pull} has bytes to return. */
  get hasOutput(): boolean {
    return this.#output.bytes > 0 || (!this.#isDead && this.#scheduler.hasWork);
  }

  /** Frames that have come; a request counts for several. */
  get framesBegun(): number {
    return this.#parser.begun;
  }

  /**
   * Bytes from the peer, split anywhere. Receivers get views of `chunk`. Stops before the next frame when `mostFrames`
   * have begun. Returns how many bytes it took.
   */
  receive(chunk: Buffer, mostFrames?: number): number {
    if (this.#isDead) return chunk.length;
    try {
      const frames = this.#prefaceLeft === 0 ? chunk : this.#skipPreface(chunk);
      const taken = chunk.length - frames.length + this.#parser.push(frames, mostFrames);
      if (this.#writer.owedBytes > mostOwedBytes) {
        throw new ConnectionViolation({
          code: errorCode.enhanceYourCalm,
          detail: 'answers that the peer does not read',
        });
      }
      return taken;
    } catch (error) {
      if (!(error instanceof ConnectionViolation)) throw error;
      this.#fail(error);
      return chunk.length;
    }
  }

  /**
   * Returns bytes for the peer, in order: `budgetBytes` and at most one frame more, or more if that many bytes of
   * answers are due. Release them to {@link writeArenas} after they were sent.
   */
  pull(budgetBytes: number): Buffer[] {
    if (!this.#isDead) this.#scheduler.fill(budgetBytes, this.#peer.maxFrameBytes);
    this.#writer.owedBytes = 0;
    return this.#output.take();
  }

  /** Client: opens a stream; null if the connection accepts no more. */
  request(fields: HeaderFields, eventsOf: (stream: EngineStream) => EngineStreamEvents): EngineStream | null {
    if (this.#isDead || this.#goawayLastId !== null || this.#frames.isPeerLeaving) return null;
    if (this.#table.size >= this.#peer.maxConcurrentStreams) return null;
    const stream = this.#table.openOwn();
    if (stream === null) return null;
    stream.events = eventsOf(stream);
    this.#writer.headers(stream.id, fields, false, this.#peer.maxFrameBytes);
    return stream;
  }

  /** Server: the final response, once. */
  respond(stream: EngineStream, fields: HeaderFields, isEnd: boolean): void {
    if (stream.isClosed || stream.isAnswered) return;
    stream.isAnswered = true;
    this.#writer.headers(stream.id, fields, isEnd, this.#peer.maxFrameBytes);
    if (isEnd) this.#table.endLocal(stream);
  }

  /** Queues bytes, which must not change afterwards. `onTaken` is called when all of them have moved to the output. */
  write(stream: EngineStream, chunk: Buffer): void {
    if (stream.isClosed || stream.isLocalEnded || stream.isEndQueued || chunk.length === 0) return;
    stream.queue.push(chunk);
    stream.queuedBytes += chunk.length;
    this.#scheduler.consider(stream);
  }

  /**
   * Copies as much of `bytes` into the output as may leave at once, if no stream waits for its turn. Returns how much;
   * pass the rest to {@link write}.
   */
  writeNow(stream: EngineStream, bytes: Buffer): number {
    if (stream.isClosed || stream.isLocalEnded || stream.isEndQueued || stream.queuedBytes > 0) return 0;
    const room = mostAheadBytes - this.#output.bytes;
    return this.#scheduler.sendNow(stream, bytes, { mostBytes: room, maxFrameBytes: this.#peer.maxFrameBytes });
  }

  /** END_STREAM after the bytes written before. */
  end(stream: EngineStream): void {
    if (stream.isClosed || stream.isLocalEnded || stream.isEndQueued) return;
    stream.isEndQueued = true;
    if (stream.queuedBytes === 0) this.#scheduler.sendEnd(stream);
  }

  /** Sends as many written bytes as the windows and one frame allow, ahead of other streams. */
  sendAhead(stream: EngineStream): void {
    if (this.#output.bytes < mostAheadBytes) this.#scheduler.sendAhead(stream, this.#peer.maxFrameBytes);
  }

  /** RST_STREAM. Written bytes that have not left are dropped. No event follows. */
  reset(stream: EngineStream, code: number): void {
    this.#table.reset(stream, code);
  }

  /** The reader of the stream's data has consumed `bytes`, and `waitingBytes` still wait for it. */
  credit(stream: EngineStream, bytes: number, waitingBytes = 0): void {
    this.#data.credit(stream, bytes, waitingBytes);
  }

  /** This much data, of any stream, no longer occupies the connection's window. */
  creditConnection(bytes: number): void {
    this.#data.creditConnection(bytes);
  }

  ping(): void {
    if (this.#isDead) return;
    this.#pingsSent = (this.#pingsSent + 1) >>> 0;
    const octets = Buffer.alloc(8);
    pingName.copy(octets);
    octets.writeUInt32BE(this.#pingsSent, 4);
    this.#writer.ping(false, octets);
  }

  /** GOAWAY NO_ERROR, once: open streams continue, new ones are not accepted. */
  goAway(): void {
    if (this.#isDead || this.#goawayLastId !== null) return;
    this.#goawayLastId = this.#table.lastPeerId;
    this.#headers.takesRequests = false;
    this.#writer.goaway(this.#goawayLastId, errorCode.noError, '');
  }

  /** The connection is lost: every stream is reset, nothing is sent to the peer, and nothing more is read. */
  abandon(code: number): void {
    this.#isDead = true;
    this.#parser.stop();
    this.#table.abandon(code);
  }

  /**
   * Peers answer in order, although RFC 9113 §6.7 does not require it: an answer to a later PING does not answer the
   * oldest.
   */
  #receivePong(octets: Buffer): void {
    const next = (this.#pingsAnswered + 1) >>> 0;
    if (this.#pingsAnswered === this.#pingsSent) return;
    if (pingName.compare(octets, 0, 4) !== 0 || octets.readUInt32BE(4) !== next) return;
    this.#pingsAnswered = next;
    this.#events.onPong();
  }

  #fail(violation: ConnectionViolation): void {
    const lastId = this.#goawayLastId ?? this.#table.lastPeerId;
    this.#writer.goaway(lastId, violation.errorCode, violation.message);
    this.#isDead = true;
    this.#events.onFailure(violation);
    this.#table.abandon(violation.errorCode);
  }

  /** RFC 9113 §3.4. */
  #skipPreface(chunk: Buffer): Buffer {
    const start = clientPreface.length - this.#prefaceLeft;
    const length = Math.min(this.#prefaceLeft, chunk.length);
    if (clientPreface.compare(chunk, 0, length, start, start + length) !== 0) {
      throw new ConnectionViolation({ code: errorCode.protocolError, detail: 'invalid HTTP/2 preface' });
    }
    this.#prefaceLeft -= length;
    return chunk.subarray(length);
  }
}
