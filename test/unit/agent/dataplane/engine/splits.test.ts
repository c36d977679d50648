import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { FrameParser } from '../../../../../agent/dataplane/engine/lean/frame-parser.js';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  endStream,
  frameType,
} from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  clientHello,
  EngineProbe,
  responseFrame,
  startedServer,
  uint32,
  type StreamLog,
} from '../../../../support/http2/engine-fixture.js';
import { propertyRuns } from '../../../../support/property-runs.js';

/** What a parser tells, with neighbouring pieces of DATA joined. */
function parse(pieces: readonly Buffer[]): string[] {
  const told: string[] = [];
  let content: Buffer[] = [];
  const parser = new FrameParser({
    maxFrameBytes: 65_536,
    handler: {
      onFrameBegin: (type, flags, stream, length) => told.push(`begin ${type} ${flags} ${stream} ${length}`),
      onDataBegin: () => (content = []),
      onDataChunk: (chunk) => content.push(Buffer.from(chunk)),
      onDataFinish: (padding) => told.push(`data ${Buffer.concat(content).toString('hex')} ${padding}`),
      onFrame: (type, flags, stream, payload) =>
        told.push(`frame ${type} ${flags} ${stream} ${payload.toString('hex')}`),
    },
  });
  for (const piece of pieces) parser.push(piece);
  return told;
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return sorted.slice(1).map((end, at) => bytes.subarray(sorted[at], end));
}

const frames = Buffer.concat([
  encodeFrame(frameType.settings, 0, 0, Buffer.from('000300000064', 'hex')),
  encodeFrame(frameType.headers, endHeaders, 1, encodeHeaders({ ':method': 'CONNECT', ':authority': 'a:1' })),
  encodeFrame(frameType.data, 0, 1, Buffer.from('hello')),
  encodeFrame(frameType.data, 0x8, 1, Buffer.from([3, 0x61, 0x62, 0, 0, 0])),
  encodeFrame(frameType.data, 0x8, 1, Buffer.from([0])),
  encodeFrame(frameType.data, endStream, 1),
  encodeFrame(0xbb, 1, 7, Buffer.from('unknown')),
  encodeFrame(frameType.ping, 0, 0, Buffer.from('12345678')),
  encodeFrame(frameType.goaway, 0, 0, Buffer.from('00000000000000006f7665', 'hex')),
]);

describe('frames', () => {
  it('are the same wherever their bytes are split in two', () => {
    const whole = parse([frames]);
    assert.equal(whole.length, 9 + 8);
    assert.ok(whole.includes('data 6162 4'));
    for (let at = 1; at < frames.length; at++) {
      assert.deepEqual(parse([frames.subarray(0, at), frames.subarray(at)]), whole, `split at ${at}`);
    }
  });

  it('are the same when their bytes come one by one', () => {
    const bytes = Array.from(frames, (_byte, at) => frames.subarray(at, at + 1));
    assert.deepEqual(parse(bytes), parse([frames]));
  });

  it('are handed on without a copy when they come whole', () => {
    const bytes = encodeFrame(frameType.data, 0, 1, Buffer.from('hello'));
    let seen: Buffer | undefined;
    const parser = new FrameParser({
      maxFrameBytes: 65_536,
      handler: {
        onFrameBegin: () => {},
        onDataBegin: () => {},
        onDataChunk: (chunk) => (seen = chunk),
        onDataFinish: () => {},
        onFrame: () => {},
      },
    });
    parser.push(bytes);
    assert.equal(seen?.buffer, bytes.buffer);
  });
});

describe('an engine that gets arbitrary bytes', () => {
  /** Frames that make sense at a glance, so that more than the first check is reached. */
  const frame = fc
    .tuple(
      fc.integer({ min: 0, max: 10 }),
      fc.integer({ min: 0, max: 255 }),
      fc.integer({ min: 0, max: 9 }),
      fc.uint8Array({ maxLength: 40 }),
    )
    .map(([type, flags, stream, payload]) => encodeFrame(type, flags, stream, payload));

  for (const role of ['server', 'client'] as const) {
    it(`as a ${role} neither throws nor keeps more than its limits`, () => {
      const bytes = fc.oneof(
        { weight: 3, arbitrary: fc.array(frame, { maxLength: 40 }).map((list) => Buffer.concat(list)) },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }).map((list) => Buffer.from(list)) },
      );
      fc.assert(
        fc.property(bytes, fc.array(fc.nat(), { maxLength: 5 }), fc.boolean(), (noise, places, hasBegun) => {
          const probe = new EngineProbe(role);
          if (hasBegun) probe.engine.receive(role === 'server' ? clientHello() : encodeFrame(frameType.settings, 0, 0));
          if (role === 'client' && hasBegun) {
            probe.request();
            probe.engine.receive(responseFrame(1, '200'));
          }
          for (const piece of cut(noise, places)) probe.engine.receive(piece);
          assert.ok(probe.engine.streamCount <= 10);
          const answer = Buffer.concat(probe.engine.pull(1_000_000));
          assert.ok(answer.length < 10_000, `${answer.length} bytes of answers`);
          if (probe.failure !== null) assert.equal(probe.engine.streamCount, 0);
        }),
        { numRuns: propertyRuns(1500) },
      );
    });
  }

  it('does not grow, however long a peer talks', () => {
    const probe = startedServer({ maxStreams: 2 }, []);
    const block = encodeHeaders({ ':method': 'CONNECT', ':authority': 'a:1', 'x-much': 'y'.repeat(100) });
    let heap = 0;
    for (let round = 0; round < 40_000; round++) {
      const id = 1 + 2 * round;
      probe.nowMs += 100;
      probe.engine.receive(encodeFrame(frameType.headers, endHeaders, id, block));
      probe.engine.receive(encodeFrame(frameType.data, 0, id, Buffer.alloc(100)));
      probe.engine.receive(encodeFrame(frameType.rst, 0, id, uint32(errorCode.cancel)));
      probe.frames();
      probe.streams.length = 0;
      if (round === 10_000) heap = process.memoryUsage().heapUsed;
    }
    assert.equal(probe.failure, null);
    assert.equal(probe.engine.streamCount, 0);
    assert.ok(process.memoryUsage().heapUsed - heap < 40_000_000);
  });
});

describe('two engines', () => {
  type Step =
    | { readonly kind: 'write'; readonly side: number; readonly stream: number; readonly length: number }
    | { readonly kind: 'carry'; readonly side: number; readonly budget: number; readonly places: readonly number[] }
    | { readonly kind: 'credit'; readonly side: number; readonly stream: number; readonly part: number };
  const side = fc.integer({ min: 0, max: 1 });
  const stream = fc.integer({ min: 0, max: 2 });
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant('write' as const), side, stream, length: fc.integer({ min: 1, max: 120_000 }) }),
    fc.record({
      kind: fc.constant('carry' as const),
      side,
      budget: fc.integer({ min: 1, max: 300_000 }),
      places: fc.array(fc.nat(), { maxLength: 6 }),
    }),
    fc.record({ kind: fc.constant('credit' as const), side, stream, part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  );

  class Session {
    readonly probes = [new EngineProbe('client'), new EngineProbe('server')] as const;
    readonly sent: Buffer[][][] = [[], []];
    readonly #uncredited = new Map<StreamLog, number>();
    #counter = 0;

    start(): void {
      const [client, server] = this.probes;
      for (const probe of this.probes) probe.consumes = false;
      for (let index = 0; index < 3; index++) client.request(`10.0.0.1:${index + 1}`);
      this.settle();
      for (const log of server.streams) server.engine.respond(log.stream, [[':status', '200']], false);
      this.settle();
      for (const list of this.sent) list.push([], [], []);
    }

    run(step: Step): void {
      if (step.kind === 'write') {
        const bytes = Buffer.alloc(step.length, ++this.#counter & 0xff);
        this.sent[step.side]![step.stream]!.push(bytes);
        const { engine, streams } = this.probes[step.side]!;
        const { stream } = streams[step.stream]!;
        const atOnce = step.length % 2 === 0 ? engine.writeNow(stream, bytes) : 0;
        engine.write(stream, bytes.subarray(atOnce));
      } else if (step.kind === 'carry') this.carry(step.side, step.budget, step.places);
      else this.credit(step.side, step.stream, step.part);
    }

    carry(from: number, budget: number, places: readonly number[]): boolean {
      const bytes = Buffer.concat(this.probes[from]!.engine.pull(budget));
      for (const piece of cut(bytes, places)) this.probes[1 - from]!.engine.receive(piece);
      return bytes.length > 0;
    }

    /** Consumes a part of what was received and not consumed yet. */
    credit(side: number, index: number, part: number): void {
      const probe = this.probes[side]!;
      const log = probe.streams[index]!;
      const received = log.received.reduce((sum, { length }) => sum + length, 0);
      const before = this.#uncredited.get(log) ?? 0;
      const bytes = Math.floor((received - before) * part);
      this.#uncredited.set(log, before + bytes);
      probe.engine.credit(log.stream, bytes, 0);
      probe.engine.creditConnection(bytes);
    }

    /** Everything gets through, because everything is consumed. */
    settle(): void {
      for (let isBusy = true; isBusy;) {
        for (const [side, probe] of this.probes.entries()) {
          for (const index of probe.streams.keys()) this.credit(side, index, 1);
        }
        const first = this.carry(0, 100_000, []);
        const second = this.carry(1, 100_000, []);
        isBusy = first || second;
      }
    }
  }

  it('deliver the same bytes in the same order, whatever the splits and credits', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const session = new Session();
        session.start();
        for (const each of steps) session.run(each);
        for (const probe of session.probes) for (const log of probe.streams) probe.engine.end(log.stream);
        session.settle();
        for (const [side, probe] of session.probes.entries()) {
          assert.equal(probe.failure, null);
          assert.equal(probe.engine.streamCount, 0);
          for (const [index, log] of probe.streams.entries()) {
            assert.equal(log.hasEnded, true);
            assert.ok(Buffer.concat(log.received).equals(Buffer.concat(session.sent[1 - side]![index]!)));
          }
        }
      }),
      { numRuns: propertyRuns(150) },
    );
  });
});
