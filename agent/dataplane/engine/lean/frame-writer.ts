import type { EngineLimits } from './engine-limits.js';
import { clientPreface, frameFlag, frameHeaderBytes, frameType, settingId } from './frame-format.js';
import { HpackEncoder, type HeaderFields } from './hpack/hpack-encoder.js';
import type { OutputQueue } from './output-queue.js';

const longestDebugText = 256;

/** Writes every frame except DATA (RFC 9113 §6) to the output. */
export class FrameWriter {
  readonly #output: OutputQueue;
  readonly #encoder = new HpackEncoder();
  /** Bytes of answers and credit since the output was last pulled: what a peer can make us send. */
  owedBytes = 0;

  constructor({ output }: { readonly output: OutputQueue }) {
    this.#output = output;
  }

  /** Our half of the connection preface (RFC 9113 §3.4). */
  preface(options: { readonly isServer: boolean; readonly limits: EngineLimits }): void {
    const { isServer, limits } = options;
    if (!isServer) this.#output.payload(clientPreface);
    const settings: readonly (readonly [id: number, value: number])[] = [
      isServer ? [settingId.maxConcurrentStreams, limits.maxStreams] : [settingId.enablePush, 0],
      [settingId.initialWindowSize, limits.firstWindowBytes],
      [settingId.maxFrameSize, limits.maxFrameBytes],
      [settingId.maxHeaderListSize, limits.maxHeaderListBytes],
    ];
    this.#output.header(6 * settings.length, frameType.settings, 0, 0);
    for (const [id, value] of settings) {
      this.#output.uint16(id);
      this.#output.uint32(value);
    }
  }

  /** HEADERS, and CONTINUATION if the block is longer than a frame may be. */
  headers(streamId: number, fields: HeaderFields, isEnd: boolean, maxFrameBytes: number): void {
    const block = this.#encoder.encode(fields);
    const first = Math.min(block.length, maxFrameBytes);
    const flags = (isEnd ? frameFlag.endStream : 0) | (first === block.length ? frameFlag.endHeaders : 0);
    this.#output.header(first, frameType.headers, flags, streamId);
    this.#output.payload(block.subarray(0, first));
    for (let at = first; at < block.length; at += maxFrameBytes) {
      const part = block.subarray(at, at + maxFrameBytes);
      const isLast = at + part.length === block.length;
      this.#output.header(part.length, frameType.continuation, isLast ? frameFlag.endHeaders : 0, streamId);
      this.#output.payload(part);
    }
  }

  settingsAck(): void {
    this.owedBytes += frameHeaderBytes;
    this.#output.header(0, frameType.settings, frameFlag.ack, 0);
  }

  /** `data`: the eight octets of RFC 9113 §6.7. */
  ping(isAck: boolean, data: Buffer): void {
    if (isAck) this.owedBytes += frameHeaderBytes + 8;
    this.#output.header(8, frameType.ping, isAck ? frameFlag.ack : 0, 0);
    this.#output.payload(data);
  }

  rstStream(streamId: number, code: number): void {
    this.owedBytes += frameHeaderBytes + 4;
    this.#output.header(4, frameType.rstStream, 0, streamId);
    this.#output.uint32(code);
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.owedBytes += frameHeaderBytes + 4;
    this.#output.header(4, frameType.windowUpdate, 0, streamId);
    this.#output.uint32(bytes);
  }

  goaway(lastStreamId: number, code: number, debugText: string): void {
    const debugData = Buffer.from(debugText.slice(0, longestDebugText), 'latin1');
    this.#output.header(8 + debugData.length, frameType.goaway, 0, 0);
    this.#output.uint32(lastStreamId);
    this.#output.uint32(code);
    this.#output.payload(debugData);
  }
}
