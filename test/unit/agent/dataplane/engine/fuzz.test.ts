import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { EngineConnection } from '../../../../../agent/dataplane/engine/lean/engine-connection.js';
import type { EngineStream, EngineStreamEvents } from '../../../../../agent/dataplane/engine/lean/engine-stream.js';
import { encodeFrame, encodeHeaders, frameType } from '../../../../support/tunnel/tunnel-raw-peer.js';
import { setting, testLimits, uint32 } from '../../../../support/http2/engine-fixture.js';
import { propertyRuns } from '../../../../support/property-runs.js';

/** What one end knows of one of its streams; complains about events after the last one. */
class StreamWatch implements EngineStreamEvents {
  readonly stream: EngineStream;
  readonly #engine: EngineConnection;
  readonly #consumes: boolean;
  readonly isEnding = false;
  isOver = false;
  #hasEnded = false;
  received = 0;
  credited = 0;

  constructor(options: {
    readonly stream: EngineStream;
    readonly engine: EngineConnection;
    readonly consumes: boolean;
  }) {
    this.stream = options.stream;
    this.#engine = options.engine;
    this.#consumes = options.consumes;
  }

  onResponse(): void {
    this.#mustBeOpen('onResponse');
  }

  onData(chunk: Buffer): void {
    this.#mustBeOpen('onData');
    assert.equal(this.#hasEnded, false, 'data after the end');
    this.received += chunk.length;
    this.#engine.creditConnection(chunk.length);
    if (this.#consumes) this.credit(1);
  }

  onEnd(): void {
    this.#mustBeOpen('onEnd');
    assert.equal(this.#hasEnded, false, 'a second end');
    this.#hasEnded = true;
  }

  onReset(): void {
    this.#mustBeOpen('onReset');
    this.isOver = true;
    assert.equal(this.stream.isClosed, true);
  }

  onTaken(): void {
    this.#mustBeOpen('onTaken');
    assert.equal(this.stream.queuedBytes, 0);
  }

  credit(part: number): void {
    const bytes = Math.floor((this.received - this.credited) * part);
    this.credited += bytes;
    this.#engine.credit(this.stream, bytes);
  }

  #mustBeOpen(event: string): void {
    assert.equal(this.isOver, false, `${event} after the last event`);
  }
}

class End {
  readonly engine: EngineConnection;
  readonly watches: StreamWatch[] = [];
  nowMs = 0;
  failures = 0;
  #isAbandoned = false;

  constructor(role: 'client' | 'server') {
    const assertAlive = (event: string): void => {
      assert.equal(this.failures, 0, `${event} after the failure`);
      assert.equal(this.#isAbandoned, false, `${event} after the connection was abandoned`);
    };
    this.engine = new EngineConnection({
      role,
      limits: testLimits,
      nowMs: () => this.nowMs,
      events: {
        onRequest: (stream) => {
          assertAlive('onRequest');
          stream.events = this.#watch(stream);
        },
        onSettings: () => assertAlive('onSettings'),
        onPong: () => assertAlive('onPong'),
        // As the session does.
        onGoaway: (code) => {
          assertAlive('onGoaway');
          if (code === 0) this.engine.goAway();
          else this.abandon();
        },
        onStreamsGone: () => {},
        onFailure: () => {
          assertAlive('onFailure');
          this.failures += 1;
        },
      },
    });
  }

  get isDead(): boolean {
    return this.failures > 0 || this.#isAbandoned;
  }

  abandon(): void {
    if (this.isDead) return;
    this.#isAbandoned = true;
    this.engine.abandon(8);
  }

  request(): void {
    this.engine.request(
      [
        [':method', 'CONNECT'],
        [':authority', '10.0.0.1:80'],
      ],
      (stream) => this.#watch(stream),
    );
  }

  pick(index: number): StreamWatch | undefined {
    return this.watches[index % Math.max(1, this.watches.length)];
  }

  /** Whether it will answer is up to the steps. */
  #watch(stream: EngineStream): StreamWatch {
    const watch = new StreamWatch({ stream, engine: this.engine, consumes: this.watches.length % 2 === 0 });
    this.watches.push(watch);
    return watch;
  }
}

type Step =
  | { readonly kind: 'open' | 'ping' | 'leave' | 'abandon' }
  | { readonly kind: 'answer' | 'end' | 'reset' | 'rush'; readonly side: number; readonly index: number }
  | { readonly kind: 'write' | 'writeNow'; readonly side: number; readonly index: number; readonly length: number }
  | { readonly kind: 'credit'; readonly side: number; readonly index: number; readonly part: number }
  | { readonly kind: 'carry'; readonly side: number; readonly budget: number; readonly places: readonly number[] }
  | { readonly kind: 'inject'; readonly side: number; readonly bytes: Buffer };

const side = fc.integer({ min: 0, max: 1 });
const index = fc.nat({ max: 12 });
const id = fc.integer({ min: 0, max: 15 });
const flags = fc.constantFrom(0, 0, 1, 4, 5, 8, 9, 0x20, 0x25);
/** Frames that are right on the whole, at a time or for a stream that may be wrong. */
const frame: fc.Arbitrary<Buffer> = fc.oneof(
  fc.tuple(flags, id, fc.uint8Array({ maxLength: 30 })).map(([f, s, p]) => encodeFrame(frameType.data, f & 9, s, p)),
  fc.tuple(flags, id).map(([f, s]) => {
    return encodeFrame(frameType.headers, f, s, encodeHeaders({ ':method': 'CONNECT', ':authority': 'a:1' }));
  }),
  fc.tuple(flags, id, fc.constantFrom('200', '103', '503', '20')).map(([f, s, status]) => {
    return encodeFrame(frameType.headers, f, s, encodeHeaders({ ':status': status }));
  }),
  fc.tuple(id, fc.nat({ max: 14 })).map(([s, code]) => encodeFrame(frameType.rst, 0, s, uint32(code))),
  fc.tuple(fc.integer({ min: 1, max: 7 }), fc.constantFrom(0, 1, 100, 16_384, 65_535, 1_000_000)).map(([k, value]) => {
    return encodeFrame(frameType.settings, 0, 0, setting(k, value));
  }),
  fc.boolean().map((isAck) => encodeFrame(frameType.ping, isAck ? 1 : 0, 0, Buffer.alloc(8))),
  fc.tuple(id, fc.constantFrom(0, 0, 2)).map(([last, code]) => {
    return encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(last), uint32(code)]));
  }),
  fc.tuple(id, fc.constantFrom(0, 1, 1000, 100_000, 2 ** 31 - 1)).map(([s, bytes]) => {
    return encodeFrame(frameType.window, 0, s, uint32(bytes));
  }),
  fc.tuple(flags, id).map(([f, s]) => encodeFrame(frameType.continuation, f, s, encodeHeaders({ x: 'y' }))),
  fc
    .tuple(fc.constantFrom(2, 5, 0xbb), id, fc.uint8Array({ maxLength: 6 }))
    .map(([t, s, p]) => encodeFrame(t, 0, s, p)),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('open' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('ping' as const, 'leave' as const, 'abandon' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('answer' as const, 'answer' as const, 'end' as const, 'reset' as const, 'rush' as const),
      side,
      index,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'writeNow' as const),
      side,
      index,
      length: fc.nat({ max: 90_000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('credit' as const),
      side,
      index,
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('carry' as const),
      side,
      budget: fc.integer({ min: 1, max: 200_000 }),
      places: fc.array(fc.nat(), { maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('inject' as const), side, bytes: frame }) },
);

class Connection {
  readonly ends = [new End('client'), new End('server')] as const;

  run(each: Step): void {
    for (const end of this.ends) end.nowMs += 20;
    switch (each.kind) {
      case 'open':
        this.ends[0].request();
        return;
      case 'ping':
        this.ends[1].engine.ping();
        return;
      case 'leave':
        this.ends[1].engine.goAway();
        return;
      case 'abandon':
        this.ends[0].abandon();
        return;
      case 'carry':
        this.carry(each.side, each.budget, each.places);
        return;
      case 'inject':
        this.ends[each.side]!.engine.receive(each.bytes);
        return;
      default: {
        const end = this.ends[each.side]!;
        const watch = end.pick(each.index);
        if (watch !== undefined) onStream(each, end, watch);
      }
    }
  }

  carry(from: number, budget: number, places: readonly number[]): void {
    const { engine } = this.ends[from]!;
    const bytes = Buffer.concat(engine.pull(budget));
    assert.equal(engine.pull(0).length, 0, 'what was fetched is gone');
    const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
    for (const [at, end] of sorted.slice(1).entries()) {
      this.ends[1 - from]!.engine.receive(bytes.subarray(sorted[at], end));
    }
  }
}

function onStream(each: Extract<Step, { index: number }>, { engine }: End, watch: StreamWatch): void {
  const { stream } = watch;
  if (each.kind === 'answer') engine.respond(stream, [[':status', '200']], false);
  else if (each.kind === 'end') engine.end(stream);
  else if (each.kind === 'write') engine.write(stream, Buffer.alloc(each.length));
  else if (each.kind === 'writeNow') engine.writeNow(stream, Buffer.alloc(each.length));
  else if (each.kind === 'credit') watch.credit(each.part);
  else {
    if (each.kind === 'rush') engine.sendAhead(stream);
    engine.reset(stream, 8);
    watch.isOver = true;
  }
}

function checkEnd(end: End): void {
  const { engine, watches } = end;
  assert.ok(engine.streamCount <= testLimits.maxStreams);
  assert.ok(watches.filter(({ stream }) => !stream.isClosed).length <= engine.streamCount);
  if (end.isDead) assert.equal(engine.streamCount, 0);
  for (const { stream } of watches) {
    if (stream.isClosed) assert.equal(stream.queuedBytes, 0);
    else assert.ok(stream.sendWindowBytes < 2 ** 31);
  }
}

describe('two engines with frames between theirs that neither of them sent', () => {
  it('never throw, tell nothing after the last event of a stream or connection, and keep within their limits', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
        const connection = new Connection();
        connection.carry(0, 100_000, []);
        connection.carry(1, 100_000, []);
        for (const each of steps) {
          connection.run(each);
          for (const end of connection.ends) checkEnd(end);
        }
        for (let round = 0; round < 50; round++) {
          connection.carry(0, 100_000, []);
          connection.carry(1, 100_000, []);
        }
        for (const end of connection.ends) {
          checkEnd(end);
          end.abandon();
          assert.equal(end.engine.streamCount, 0);
          assert.ok(end.watches.every(({ stream }) => stream.isClosed));
        }
      }),
      { numRuns: propertyRuns(800) },
    );
  });
});
