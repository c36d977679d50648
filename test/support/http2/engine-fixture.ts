import { EngineConnection } from '../../../agent/dataplane/engine/lean/engine-connection.js';
import type { EngineLimits } from '../../../agent/dataplane/engine/lean/engine-limits.js';
import type { EngineStream, EngineStreamEvents } from '../../../agent/dataplane/engine/lean/engine-stream.js';
import { clientPreface } from '../../../agent/dataplane/engine/lean/frame-format.js';
import type { HeaderMap } from '../../../agent/dataplane/engine/lean/header-rules.js';
import { encodeFrame, encodeHeaders, endHeaders, frameType, type Frame } from '../tunnel/tunnel-raw-peer.js';

export const testLimits: EngineLimits = {
  firstWindowBytes: 100_000,
  streamWindowBytes: 100_000,
  connectionWindowBytes: 200_000,
  maxFrameBytes: 65_536,
  maxStreams: 10,
  maxHeaderListBytes: 4096,
  maxHeaderFields: 16,
};

export type StreamLog = {
  readonly stream: EngineStream;
  readonly request: HeaderMap | null;
  response: HeaderMap | null;
  readonly received: Buffer[];
  hasEnded: boolean;
  resetCode: number | null;
  taken: number;
};

/** An engine whose events are written down, and which consumes what it gets unless told otherwise. */
export class EngineProbe {
  readonly engine: EngineConnection;
  readonly streams: StreamLog[] = [];
  readonly goaways: { readonly code: number; readonly debugData: Buffer }[] = [];
  settings = 0;
  pongs = 0;
  failure: string | null = null;
  consumes = true;
  nowMs = 0;

  constructor(role: 'client' | 'server', limits: Partial<EngineLimits> = {}) {
    this.engine = new EngineConnection({
      role,
      limits: { ...testLimits, firstWindowBytes: limits.streamWindowBytes ?? testLimits.firstWindowBytes, ...limits },
      nowMs: () => this.nowMs,
      events: {
        onRequest: (stream, headers) => (stream.events = this.#log(stream, headers)),
        onSettings: () => (this.settings += 1),
        onPong: () => (this.pongs += 1),
        onGoaway: (code, debugData) => this.goaways.push({ code, debugData }),
        onStreamsGone: () => {},
        onFailure: (violation) => (this.failure = violation.message),
      },
    });
  }

  /** A client's CONNECT. */
  request(authority = '10.0.0.1:80'): StreamLog {
    const stream = this.engine.request(
      [
        [':method', 'CONNECT'],
        [':authority', authority],
      ],
      (made) => this.#log(made, null),
    );
    if (stream === null) throw new Error('no stream');
    return this.streams.at(-1)!;
  }

  /** The frames that wait to be sent. */
  frames(budgetBytes = 1_000_000): Frame[] {
    return parseFrames(Buffer.concat(this.engine.pull(budgetBytes)));
  }

  /** What is behind the last GOAWAY or RST_STREAM: its error code. */
  sentCode(type: number, frames = this.frames()): number | null {
    const frame = frames.filter((candidate) => candidate.type === type).at(-1);
    return frame === undefined ? null : frame.payload.readUInt32BE(type === frameType.goaway ? 4 : 0);
  }

  #log(stream: EngineStream, request: HeaderMap | null): EngineStreamEvents {
    const log: StreamLog = {
      stream,
      request,
      response: null,
      received: [],
      hasEnded: false,
      resetCode: null,
      taken: 0,
    };
    this.streams.push(log);
    return {
      onResponse: (headers) => (log.response = headers),
      onData: (chunk) => {
        log.received.push(Buffer.from(chunk));
        if (!this.consumes) return;
        this.engine.credit(stream, chunk.length, 0);
        this.engine.creditConnection(chunk.length);
      },
      onEnd: () => (log.hasEnded = true),
      onReset: (code) => (log.resetCode = code),
      onTaken: () => (log.taken += 1),
      isEnding: false,
    };
  }
}

/** All frames of some bytes, after the preface if there is one; throws when something is left over. */
export function parseFrames(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  let rest = bytes.subarray(0, clientPreface.length).equals(clientPreface)
    ? bytes.subarray(clientPreface.length)
    : bytes;
  while (rest.length > 0) {
    const length = rest.readUIntBE(0, 3);
    if (rest.length < 9 + length) throw new Error('half a frame');
    frames.push({
      type: rest.readUInt8(3),
      flags: rest.readUInt8(4),
      stream: rest.readUInt32BE(5),
      payload: rest.subarray(9, 9 + length),
    });
    rest = rest.subarray(9 + length);
  }
  return frames;
}

/** The client's half of the connection preface, without any setting. */
export function clientHello(): Buffer {
  return Buffer.concat([clientPreface, encodeFrame(frameType.settings, 0, 0)]);
}

export function connectFrame(stream: number, flags = endHeaders, extra: Readonly<Record<string, string>> = {}): Buffer {
  const block = encodeHeaders({ ':method': 'CONNECT', ':authority': '10.0.0.1:80', ...extra });
  return encodeFrame(frameType.headers, flags, stream, block);
}

/** A server that has heard a preface and, unless told otherwise, has one stream, number 1, with nothing left to send. */
export function startedServer(limits: Partial<EngineLimits> = {}, streams: readonly number[] = [1]): EngineProbe {
  const probe = new EngineProbe('server', limits);
  probe.engine.receive(clientHello());
  for (const stream of streams) probe.engine.receive(connectFrame(stream));
  probe.frames();
  return probe;
}

/** A client that has heard SETTINGS and has one stream, number 1, which was answered with 200 unless told otherwise. */
export function startedClient(limits: Partial<EngineLimits> = {}, isAnswered = true): EngineProbe {
  const probe = new EngineProbe('client', limits);
  probe.engine.receive(encodeFrame(frameType.settings, 0, 0));
  probe.request();
  if (isAnswered) probe.engine.receive(responseFrame(1, '200'));
  probe.frames();
  return probe;
}

export function responseFrame(stream: number, status: string, flags = endHeaders): Buffer {
  return encodeFrame(frameType.headers, flags, stream, encodeHeaders({ ':status': status }));
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** One SETTINGS entry. */
export function setting(id: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([0, id]), uint32(value)]);
}
