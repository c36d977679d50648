import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { clientPreface } from '../../../../../agent/dataplane/engine/lean/frame-format.js';
import { encodeFrame, endStream, frameType, type Frame } from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  clientHello,
  connectFrame,
  EngineProbe,
  responseFrame,
  setting,
  startedClient,
  startedServer,
  uint32,
} from '../../../../support/http2/engine-fixture.js';
import { data } from '../../../../support/http2/rule.js';

function settings(...values: readonly Buffer[]): Buffer {
  return encodeFrame(frameType.settings, 0, 0, Buffer.concat(values));
}

function typesOf(frames: readonly Frame[]): number[] {
  return frames.map(({ type }) => type);
}

describe('what the engine sends obeys RFC 9113', () => {
  it('§3.4 a client begins with the preface and SETTINGS, a server with SETTINGS', () => {
    const client = new EngineProbe('client');
    client.request();
    const bytes = Buffer.concat(client.engine.pull(1_000_000));
    assert.ok(bytes.subarray(0, clientPreface.length).equals(clientPreface));
    assert.equal(bytes.readUInt8(clientPreface.length + 3), frameType.settings);
    const server = new EngineProbe('server');
    server.engine.receive(clientHello());
    assert.equal(server.frames()[0]?.type, frameType.settings);
  });

  it('§4.1 no reserved bit, no flag and no type that RFC 9113 does not define', () => {
    const client = new EngineProbe('client');
    const server = new EngineProbe('server');
    const sent: Frame[] = [];
    const carry = (): void => {
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        const bytes = Buffer.concat(from.engine.pull(1_000_000));
        const rest = bytes.subarray(0, clientPreface.length).equals(clientPreface) ? clientPreface.length : 0;
        for (let at = rest; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
          const header = bytes.subarray(at, at + 9);
          sent.push({ type: header[3]!, flags: header[4]!, stream: header.readUInt32BE(5), payload: header });
        }
        to.engine.receive(bytes);
      }
    };
    client.request();
    client.request();
    carry();
    for (const { stream } of server.streams) server.engine.respond(stream, [[':status', '200']], false);
    carry();
    client.engine.write(client.streams[0]!.stream, Buffer.alloc(60_000));
    client.engine.end(client.streams[0]!.stream);
    client.engine.reset(client.streams[1]!.stream, errorCode.connectError);
    client.engine.ping();
    server.engine.goAway();
    for (let round = 0; round < 5; round++) carry();
    const allowed = new Map<number, number>([
      [frameType.data, endStream],
      [frameType.headers, 5],
      [frameType.rst, 0],
      [frameType.settings, 1],
      [frameType.ping, 1],
      [frameType.goaway, 0],
      [frameType.window, 0],
    ]);
    assert.deepEqual(new Set(typesOf(sent)), new Set(allowed.keys()));
    for (const { type, flags, stream } of sent) {
      assert.equal(flags & ~allowed.get(type)!, 0, `flags ${flags} of type ${type}`);
      assert.ok(stream < 2 ** 31);
    }
  });

  it('§4.3 a block that is longer than a frame goes out in one run, whatever else waits', () => {
    const probe = startedServer({}, [1, 3]);
    probe.engine.write(probe.streams[0]!.stream, Buffer.alloc(60_000));
    probe.engine.respond(
      probe.streams[1]!.stream,
      [
        [':status', '503'],
        ['x', 'y'.repeat(40_000)],
      ],
      false,
    );
    probe.engine.ping();
    const frames = probe.frames();
    const start = frames.findIndex(({ type }) => type === frameType.headers);
    const run = frames.slice(start, start + 3);
    assert.deepEqual(
      run.map(({ type, stream, flags, payload }) => [type, stream, flags, payload.length <= 16_384]),
      [
        [frameType.headers, 3, 0, true],
        [frameType.continuation, 3, 0, true],
        [frameType.continuation, 3, 4, true],
      ],
    );
  });

  it('§5.1 half-closed (local): no more DATA, END_STREAM or HEADERS, but credit and a reset', () => {
    const probe = startedServer();
    const { stream } = probe.streams[0]!;
    probe.consumes = false;
    probe.engine.respond(stream, [[':status', '200']], true);
    probe.frames();
    probe.engine.write(stream, Buffer.from('late'));
    probe.engine.end(stream);
    probe.engine.respond(stream, [[':status', '200']], true);
    assert.deepEqual(probe.frames(), []);
    probe.engine.receive(data(1, Buffer.alloc(60_000)));
    probe.engine.credit(stream, 60_000);
    probe.engine.reset(stream, errorCode.cancel);
    assert.deepEqual(typesOf(probe.frames()), [frameType.window, frameType.rst]);
  });

  for (const [how, close] of [
    ['our reset', (probe) => probe.engine.reset(probe.streams[0]!.stream, errorCode.cancel)],
    ["the peer's reset", (probe) => probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(8)))],
    [
      'both ends',
      (probe) => {
        probe.engine.end(probe.streams[0]!.stream);
        probe.engine.receive(data(1, '', endStream));
      },
    ],
  ] satisfies [string, (probe: EngineProbe) => void][]) {
    it(`§5.1 closed: nothing more on the stream after ${how}`, () => {
      const probe = startedServer();
      const { stream } = probe.streams[0]!;
      close(probe);
      probe.frames();
      probe.engine.respond(stream, [[':status', '200']], false);
      probe.engine.write(stream, Buffer.from('late'));
      assert.equal(probe.engine.writeNow(stream, Buffer.from('late')), 0);
      probe.engine.end(stream);
      probe.engine.credit(stream, 90_000);
      probe.engine.sendAhead(stream);
      probe.engine.reset(stream, errorCode.cancel);
      probe.engine.receive(encodeFrame(frameType.window, 0, 1, uint32(8)));
      assert.deepEqual(probe.frames(), []);
    });
  }

  it('§5.1.1 a client numbers its streams 1, 3, 5, and uses no number again', () => {
    const probe = startedClient();
    probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(8)));
    probe.request();
    probe.request();
    assert.deepEqual(
      probe.streams.map(({ stream }) => stream.id),
      [1, 3, 5],
    );
  });

  it('§5.1.2 no more streams than the peer allows, and none when that is none', () => {
    const probe = startedClient();
    probe.engine.receive(settings(setting(3, 2)));
    probe.request();
    assert.throws(() => probe.request(), /no stream/);
    probe.engine.receive(settings(setting(3, 0)));
    probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(8)));
    assert.throws(() => probe.request(), /no stream/);
    assert.equal(probe.engine.streamCount, 1, 'what is open lives on');
  });

  it('§5.2.1 windows hold back DATA alone', () => {
    const probe = startedServer({}, []);
    probe.engine.receive(settings(setting(4, 0)));
    probe.engine.receive(Buffer.concat([connectFrame(1), connectFrame(3), connectFrame(5)]));
    probe.frames();
    const [first, second, third] = probe.streams;
    for (const log of probe.streams) probe.engine.respond(log.stream, [[':status', '200']], false);
    probe.engine.write(first!.stream, Buffer.from('held'));
    probe.engine.end(second!.stream);
    probe.engine.reset(third!.stream, errorCode.connectError);
    const frames = probe.frames().map(({ type, stream, flags }) => [type, stream, flags]);
    assert.deepEqual(frames, [
      [frameType.headers, 1, 4],
      [frameType.headers, 3, 4],
      [frameType.headers, 5, 4],
      [frameType.data, 3, endStream],
      [frameType.rst, 5, 0],
    ]);
  });

  it('§6.5.3 SETTINGS count from their acknowledgement on: what follows it obeys them', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.window, 0, 0, uint32(1_000_000)));
    probe.engine.write(probe.streams[0]!.stream, Buffer.alloc(60_000));
    probe.engine.receive(settings(setting(4, 1000)));
    const frames = probe.frames();
    assert.deepEqual([frames[0]?.type, frames[0]?.flags], [frameType.settings, 1]);
    assert.deepEqual(
      frames.slice(1).map(({ payload }) => payload.length),
      [1000],
    );
  });

  it('§6.8 a second GOAWAY says no higher stream than the first', () => {
    const probe = startedServer();
    probe.engine.goAway();
    probe.engine.goAway();
    probe.engine.receive(connectFrame(3));
    probe.engine.receive(data(0, 'x'));
    const goaways = probe.frames().filter(({ type }) => type === frameType.goaway);
    assert.deepEqual(
      goaways.map(({ payload }) => [payload.readUInt32BE(), payload.readUInt32BE(4)]),
      [
        [1, errorCode.noError],
        [1, errorCode.protocolError],
      ],
    );
    assert.equal(probe.engine.hasOutput, false);
  });

  it('§6.9.2 INITIAL_WINDOW_SIZE does not change the window of the connection', () => {
    const probe = startedServer();
    probe.engine.receive(settings(setting(4, 1_000_000)));
    probe.frames();
    probe.engine.write(probe.streams[0]!.stream, Buffer.alloc(100_000));
    const sent = probe.frames().reduce((sum, { payload }) => sum + payload.length, 0);
    assert.equal(sent, 65_535);
  });

  it('§8.1 a request is answered once', () => {
    const probe = startedServer();
    const { stream } = probe.streams[0]!;
    probe.engine.respond(stream, [[':status', '200']], false);
    probe.engine.respond(stream, [[':status', '503']], true);
    assert.equal(probe.frames().length, 1);
    assert.equal(probe.engine.streamCount, 1);
  });

  it('§8.5 a CONNECT has :method and :authority, and no END_STREAM', () => {
    const probe = new EngineProbe('client');
    probe.request('10.0.0.9:443');
    const server = new EngineProbe('server');
    server.engine.receive(Buffer.concat(probe.engine.pull(100_000)));
    assert.deepEqual({ ...server.streams[0]?.request }, { ':method': 'CONNECT', ':authority': '10.0.0.9:443' });
    assert.equal(server.streams[0]?.hasEnded, false);
    const answered = startedClient({}, false);
    answered.engine.receive(responseFrame(1, '200'));
    assert.equal(answered.streams[0]?.response?.[':status'], '200');
  });
});
