import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { encodeFrame, endStream, frameType } from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  EngineProbe,
  clientHello,
  connectFrame,
  parseFrames,
  setting,
  startedServer,
  uint32,
} from '../../../../support/http2/engine-fixture.js';

function data(stream: number, length: number): Buffer {
  return encodeFrame(frameType.data, 0, stream, Buffer.alloc(length));
}

function windowUpdate(stream: number, bytes: number): Buffer {
  return encodeFrame(frameType.window, 0, stream, uint32(bytes));
}

function updatesOf(probe: EngineProbe, stream: number): number[] {
  const frames = probe.frames().filter((frame) => frame.type === frameType.window && frame.stream === stream);
  return frames.map(({ payload }) => payload.readUInt32BE());
}

describe('what an engine may receive', () => {
  it('is announced at the start, for a stream and for the connection', () => {
    const frames = new EngineProbe('server').frames();
    const [settings, update] = frames;
    assert.equal(settings?.payload.readUInt32BE(8), 100_000);
    assert.equal(update?.payload.readUInt32BE(), 200_000 - 65_535);
  });

  it('is given back in portions, when it was consumed', () => {
    const probe = startedServer();
    probe.consumes = false;
    probe.engine.receive(data(1, 50_000));
    assert.deepEqual(probe.frames(), []);
    const { stream } = probe.streams[0]!;
    probe.engine.credit(stream, 24_999, 25_001);
    assert.deepEqual(updatesOf(probe, 1), []);
    probe.engine.credit(stream, 1, 25_000);
    assert.deepEqual(updatesOf(probe, 1), [25_000]);
    probe.engine.creditConnection(50_000);
    assert.deepEqual(updatesOf(probe, 0), [50_000]);
  });

  it('is FLOW_CONTROL_ERROR beyond the window of a stream (§6.9.1)', () => {
    const probe = startedServer();
    probe.consumes = false;
    probe.engine.receive(Buffer.concat([data(1, 60_000), data(1, 40_000)]));
    assert.equal(probe.sentCode(frameType.rst), null);
    probe.engine.receive(data(1, 1));
    assert.equal(probe.sentCode(frameType.rst), errorCode.flowControlError);
    assert.equal(probe.failure, null);
    assert.equal(probe.streams[0]?.resetCode, errorCode.flowControlError);
  });

  it('is FLOW_CONTROL_ERROR beyond the window of the connection (§6.9.1)', () => {
    const probe = startedServer({ streamWindowBytes: 1_000_000, maxFrameBytes: 1_000_000 });
    probe.consumes = false;
    probe.engine.receive(data(1, 200_001));
    assert.equal(probe.sentCode(frameType.goaway), errorCode.flowControlError);
  });

  it('counts padding, and gives it back by itself (§6.9.1)', () => {
    const probe = startedServer({ streamWindowBytes: 1000, connectionWindowBytes: 65_535 });
    probe.consumes = false;
    const padded = encodeFrame(frameType.data, 0x8, 1, Buffer.concat([Buffer.from([249, 0x61]), Buffer.alloc(249)]));
    probe.engine.receive(padded);
    assert.deepEqual(updatesOf(probe, 1), [250]);
    assert.equal(Buffer.concat(probe.streams[0]!.received).toString(), 'a');
  });

  it('counts for the connection also when its stream is closed (§5.1)', () => {
    const probe = startedServer();
    probe.engine.reset(probe.streams[0]!.stream, errorCode.cancel);
    probe.frames();
    probe.engine.receive(data(1, 60_000));
    assert.deepEqual(updatesOf(probe, 0), [60_000]);
  });

  it('is not announced any more to a peer that has ended its side', () => {
    const probe = startedServer();
    probe.consumes = false;
    probe.engine.receive(encodeFrame(frameType.data, endStream, 1, Buffer.alloc(60_000)));
    probe.engine.credit(probe.streams[0]!.stream, 60_000, 0);
    assert.deepEqual(probe.frames(), []);
  });
});

describe('what an engine sends', () => {
  function sent(probe: EngineProbe, budget?: number): [stream: number, length: number][] {
    const frames = probe.frames(budget).filter(({ type }) => type === frameType.data);
    return frames.map(({ stream, payload }) => [stream, payload.length]);
  }

  it('stops at the window of the stream, and goes on with more', () => {
    const probe = startedServer();
    probe.engine.receive(windowUpdate(0, 1_000_000));
    const { stream } = probe.streams[0]!;
    probe.engine.write(stream, Buffer.alloc(100_000));
    assert.deepEqual(
      sent(probe).map(([, length]) => length),
      [16_384, 16_384, 16_384, 16_383],
    );
    assert.equal(probe.engine.hasOutput, false);
    probe.engine.receive(windowUpdate(1, 10));
    assert.deepEqual(sent(probe), [[1, 10]]);
    assert.equal(probe.streams[0]?.taken, 0);
    probe.engine.receive(windowUpdate(1, 100_000));
    assert.equal(
      sent(probe).reduce((sum, [, length]) => sum + length, 0),
      100_000 - 65_535 - 10,
    );
    assert.equal(probe.streams[0]?.taken, 1);
  });

  it('stops at the window of the connection, for all streams', () => {
    const probe = startedServer({}, [1, 3]);
    for (const { stream } of probe.streams) probe.engine.write(stream, Buffer.alloc(60_000));
    assert.equal(
      sent(probe).reduce((sum, [, length]) => sum + length, 0),
      65_535,
    );
    assert.equal(probe.engine.hasOutput, false);
    probe.engine.receive(windowUpdate(0, 100_000));
    assert.equal(
      sent(probe).reduce((sum, [, length]) => sum + length, 0),
      120_000 - 65_535,
    );
  });

  it('takes turns between streams', () => {
    const probe = startedServer({}, [1, 3]);
    for (const { stream } of probe.streams) probe.engine.write(stream, Buffer.alloc(30_000));
    assert.deepEqual(
      sent(probe).map(([stream]) => stream),
      [1, 3, 1, 3],
    );
  });

  it('is as much as was asked for, and a frame at most', () => {
    const probe = startedServer();
    probe.engine.write(probe.streams[0]!.stream, Buffer.alloc(60_000));
    assert.deepEqual(sent(probe, 20_000).length, 2);
    assert.equal(probe.engine.hasOutput, true);
  });

  it('obeys MAX_FRAME_SIZE and a changed INITIAL_WINDOW_SIZE of the peer (§6.9.2)', () => {
    const probe = new EngineProbe('server');
    probe.engine.receive(clientHello());
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, Buffer.concat([setting(4, 10), setting(5, 32_768)])));
    probe.engine.receive(Buffer.concat([connectFrame(1), windowUpdate(0, 1_000_000)]));
    probe.frames();
    const { stream } = probe.streams[0]!;
    probe.engine.write(stream, Buffer.alloc(50_000));
    assert.deepEqual(sent(probe), [[1, 10]]);
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, setting(4, 5)));
    probe.engine.receive(windowUpdate(1, 5));
    assert.deepEqual(sent(probe), [], 'the window was negative and is 0 now');
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, setting(4, 100_000)));
    assert.deepEqual(sent(probe), [
      [1, 32_768],
      [1, 50_000 - 10 - 32_768],
    ]);
  });

  it('ends with END_STREAM on the last DATA, or alone when all has left', () => {
    const probe = startedServer({}, [1, 3]);
    const [first, second] = probe.streams;
    probe.engine.write(first!.stream, Buffer.from('last'));
    probe.engine.end(first!.stream);
    probe.engine.end(second!.stream);
    const frames = probe.frames().map(({ stream, flags, payload }) => [stream, flags, payload.toString()]);
    assert.deepEqual(frames, [
      [3, 1, ''],
      [1, 1, 'last'],
    ]);
  });

  it('is dropped by a reset', () => {
    const probe = startedServer();
    probe.engine.write(probe.streams[0]!.stream, Buffer.alloc(50_000));
    probe.engine.reset(probe.streams[0]!.stream, errorCode.connectError);
    assert.deepEqual(
      probe.frames().map(({ type }) => type),
      [frameType.rst],
    );
    assert.equal(probe.engine.hasOutput, false);
  });

  it('goes before a reset when it is sent ahead, as far as the windows allow', () => {
    const probe = startedServer();
    const { stream } = probe.streams[0]!;
    probe.engine.write(stream, Buffer.alloc(90_000));
    probe.engine.sendAhead(stream);
    probe.engine.reset(stream, errorCode.connectError);
    assert.deepEqual(
      probe.frames().map(({ type, payload }) => [type, payload.length]),
      [
        [frameType.data, 16_384],
        [frameType.rst, 4],
      ],
    );
  });

  it('keeps no reference to what it was given once that is in the output', () => {
    const probe = startedServer();
    const payload = Buffer.alloc(16_384, 7);
    probe.engine.write(probe.streams[0]!.stream, payload);
    const pieces = probe.engine.pull(100_000);
    payload.fill(0);
    assert.equal(pieces.length, 1, 'one write');
    assert.equal(parseFrames(pieces[0]!).at(-1)?.payload.equals(Buffer.alloc(16_384, 7)), true);
  });

  it('lets no stream write at once while another waits for a turn', () => {
    const probe = startedServer({}, [1, 3]);
    const [first, second] = probe.streams.map(({ stream }) => stream);
    probe.engine.write(first!, Buffer.alloc(100));
    assert.equal(probe.engine.writeNow(second!, Buffer.alloc(100)), 0);
    probe.frames();
    assert.equal(probe.engine.writeNow(second!, Buffer.alloc(100)), 100);
  });

  it('takes no more at once than a peer may leave unfetched, in frames as large as the peer takes', () => {
    const probe = startedServer();
    probe.engine.receive(Buffer.concat([windowUpdate(0, 10_000_000), windowUpdate(1, 10_000_000)]));
    probe.frames();
    const { stream } = probe.streams[0]!;
    let taken = 0;
    for (let bytes = -1; bytes !== 0; taken += bytes) bytes = probe.engine.writeNow(stream, Buffer.alloc(100_000));
    assert.ok(taken > 200_000 && taken <= 262_144, String(taken));
    const frames = probe.frames();
    assert.equal(
      frames.reduce((sum, { payload }) => sum + payload.length, 0),
      taken,
    );
    assert.ok(frames.every(({ payload }) => payload.length <= 16_384));
    assert.equal(probe.engine.writeNow(stream, Buffer.alloc(100)), 100, 'it was fetched');
  });
});
