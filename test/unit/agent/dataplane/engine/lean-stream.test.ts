import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { EngineConnection } from '../../../../../agent/dataplane/engine/lean/engine-connection.js';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { LeanStream } from '../../../../../agent/dataplane/engine/lean/lean-stream.js';
import { encodeFrame, endStream, frameType, type Frame } from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  clientHello,
  connectFrame,
  parseFrames,
  testLimits,
  uint32,
} from '../../../../support/http2/engine-fixture.js';

/** A server's engine whose only stream, number 1, is a `LeanStream`; it was answered, and nothing waits to be sent. */
function start(): { engine: EngineConnection; stream: LeanStream; frames: () => Frame[] } {
  let stream: LeanStream | undefined;
  const engine: EngineConnection = new EngineConnection({
    role: 'server',
    limits: testLimits,
    nowMs: () => 0,
    events: {
      onRequest: (made) => {
        stream = new LeanStream({ home: { engine, scheduleFlush: () => {} }, stream: made });
        made.events = stream;
      },
      onSettings: () => {},
      onPong: () => {},
      onGoaway: () => {},
      onStreamsGone: () => {},
      onFailure: () => {},
    },
  });
  engine.receive(Buffer.concat([clientHello(), connectFrame(1)]));
  stream!.respond({ ':status': 200 });
  engine.pull(100_000);
  return { engine, stream: stream!, frames: () => parseFrames(Buffer.concat(engine.pull(1_000_000))) };
}

function data(length: number, fill = 0, flags = 0): Buffer {
  return encodeFrame(frameType.data, flags, 1, Buffer.alloc(length, fill));
}

function dataOf(frames: readonly Frame[]): string {
  const parts = frames.filter(({ type, stream }) => type === frameType.data && stream === 1);
  return Buffer.concat(parts.map(({ payload }) => payload)).toString();
}

function credited(frames: readonly Frame[]): number {
  const updates = frames.filter(({ type, stream }) => type === frameType.window && stream === 1);
  return updates.reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0);
}

describe('a stream of the lean engine', () => {
  it('says its end with its last bytes', async () => {
    const { stream, frames } = start();
    stream.write('first');
    stream.end('last');
    const sent = [...frames(), ...frames()].filter(({ stream, type }) => stream === 1 && type === frameType.data);
    assert.deepEqual(
      sent.map(({ payload, flags }) => [payload.toString(), flags]),
      [
        ['first', 0],
        ['last', endStream],
      ],
    );
    if (!stream.writableFinished) await once(stream, 'finish');
  });

  it('sends lent bytes at once as far as the window goes, and the rest and the end after them', () => {
    const { stream, frames } = start();
    const lent = Buffer.from('x'.repeat(70_000));
    const sent = stream.writeNow(lent);
    assert.equal(sent, 65_535, 'the first window of the peer');
    stream.write(Buffer.from(lent.subarray(sent)));
    lent.fill('-');
    assert.equal(stream.writeNow(Buffer.from('later')), 0, 'something waits before it');
    assert.equal(dataOf(frames()), 'x'.repeat(65_535));
    assert.equal(stream.writableLength, 70_000 - 65_535);
  });

  it('keeps the order of what is sent at once, what is queued, and the end', () => {
    const { stream, frames } = start();
    assert.equal(stream.writeNow(Buffer.from('one ')), 4);
    stream.write('two ');
    assert.equal(stream.writeNow(Buffer.from('never')), 0);
    const first = dataOf(frames());
    assert.equal(stream.writeNow(Buffer.from('three')), 5);
    stream.end();
    assert.equal(stream.writeNow(Buffer.from('never')), 0, 'after its end');
    const last = frames();
    assert.equal(first + dataOf(last), 'one two three');
    assert.equal(last.at(-1)?.flags, endStream);
  });

  it('resets after what was sent at once', () => {
    const { stream, frames } = start();
    assert.equal(stream.writeNow(Buffer.from('last words')), 10);
    stream.reset();
    assert.equal(stream.writeNow(Buffer.from('never')), 0);
    const sent = frames();
    assert.equal(dataOf(sent), 'last words');
    assert.equal(sent.at(-1)?.type, frameType.rst);
  });

  it('lends what it receives to a reader that takes loans, and keeps a copy of what has to wait', () => {
    const { engine, stream } = start();
    const taken: string[] = [];
    const waited: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => waited.push(chunk));
    stream.lendTo((bytes) => taken.push(bytes.toString()));
    const frame = encodeFrame(frameType.data, 0, 1, Buffer.from('at once'));
    engine.receive(frame);
    frame.fill(0);
    assert.deepEqual([taken, waited], [['at once'], []]);
    stream.pause();
    const later = encodeFrame(frameType.data, 0, 1, Buffer.from('later'));
    engine.receive(later);
    later.fill(0);
    assert.deepEqual([taken, waited], [['at once'], []]);
    assert.equal((stream.read() as Buffer).toString(), 'later');
  });

  it('keeps what waits in memory that is used again, once its last reader has let go', async () => {
    const { engine, stream, frames } = start();
    const memory = new Set<ArrayBufferLike>();
    const received: number[] = [];
    const take = (chunk: Buffer): void => {
      memory.add(chunk.buffer);
      for (const byte of [chunk[0], chunk.at(-1)]) if (byte !== received.at(-1)) received.push(byte!);
    };
    stream.on('data', take);
    stream.lendTo(take);
    const rounds = 100;
    for (let round = 1; round <= rounds; round++) {
      stream.pause();
      engine.receive(data(30_000, round));
      engine.receive(data(30_000, round + 100));
      stream.resume();
      await once(stream, 'resume');
      assert.equal(stream.readableLength, 0);
      frames();
    }
    const sent = Array.from({ length: rounds }, (_, round) => [round + 1, round + 101]).flat();
    assert.deepEqual(received, sent);
    assert.ok(memory.size <= 3, `${memory.size} pieces of memory for ${rounds} rounds`);
  });

  it('gives what had to wait for good to a reader that reads it itself', async () => {
    const { engine, stream } = start();
    stream.lendTo(() => {});
    stream.pause();
    engine.receive(data(30_000, 1));
    const first = stream.read() as Buffer;
    engine.receive(data(30_000, 2));
    const second = stream.read() as Buffer;
    assert.deepEqual([first[0], first.at(-1), second[0]], [1, 1, 2]);
  });

  it('credits what is read at once', () => {
    const { engine, stream, frames } = start();
    stream.on('data', () => {});
    engine.receive(data(50_000));
    assert.equal(credited(frames()), 50_000);
  });

  it('credits nothing while it is paused, and what was read afterwards', async () => {
    const { engine, stream, frames } = start();
    const received: number[] = [];
    stream.on('data', (chunk: Buffer) => received.push(chunk[0]!));
    stream.pause();
    engine.receive(data(40_000, 1));
    engine.receive(data(40_000, 2));
    assert.equal(credited(frames()), 0);
    assert.equal(stream.readableLength, 80_000);
    stream.resume();
    // Comes before what waits was read: the order must hold.
    engine.receive(data(10_000, 3));
    while (received.length < 3) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(received, [1, 2, 3]);
    assert.ok(credited(frames()) >= 80_000);
  });

  it('credits what is read by read()', async () => {
    const { engine, stream, frames } = start();
    const readable = once(stream, 'readable');
    engine.receive(data(50_000));
    await readable;
    assert.equal(credited(frames()), 0);
    assert.equal((stream.read() as Buffer).length, 50_000);
    assert.equal(credited(frames()), 50_000);
  });

  it('keeps what waits for a reader in little more than its size, however small the pieces', async () => {
    const { engine, stream, frames } = start();
    stream.pause();
    const sent: number[] = [];
    const objects: Buffer[] = [];
    const piece = (octet: number, length: number): void => {
      // As much else in the same TLS record as there may be.
      const record = Buffer.alloc(16_384);
      const frame = data(length, octet);
      frame.copy(record);
      engine.receive(record.subarray(0, frame.length));
      for (let count = 0; count < length; count++) sent.push(octet);
    };
    for (let round = 0; round < 9000; round++) piece(round & 0xff, 1 + (round % 7));
    piece(1, 5000);
    piece(2, 100);
    piece(3, 4000);
    piece(4, 100);
    engine.receive(data(0, 0, endStream));
    assert.equal(credited(frames()), 0, 'nothing was read');
    stream.on('data', (chunk: Buffer) => objects.push(chunk));
    stream.resume();
    await once(stream, 'end');
    assert.ok(Buffer.concat(objects).equals(Buffer.from(sent)));
    assert.ok(objects.length < 20, `${objects.length} objects`);
    const kept = new Set(objects.map(({ buffer }) => buffer));
    const bytes = [...kept].reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.ok(bytes < 3 * sent.length, `${bytes} bytes for ${sent.length}`);
  });

  it('credits small pieces that waited when they were read', async () => {
    const { engine, stream, frames } = start();
    for (let round = 0; round < 50; round++) engine.receive(data(1000, round));
    assert.equal(credited(frames()), 0);
    let received = 0;
    await new Promise<void>((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received === 50_000) setImmediate(resolve);
      });
    });
    assert.equal(credited(frames()), 50_000);
    engine.receive(data(26_000));
    assert.equal(received, 76_000);
    assert.equal(credited(frames()), 26_000);
  });

  it('delivers what came before an orderly end, although RST_STREAM NO_ERROR follows (§8.1)', async () => {
    const { engine, stream } = start();
    engine.receive(data(10_000, 7));
    engine.receive(Buffer.concat([data(0, 0, endStream), encodeFrame(frameType.rst, 0, 1, uint32(0))]));
    let received = 0;
    stream.on('data', (chunk: Buffer) => (received += chunk.length));
    await once(stream, 'end');
    assert.deepEqual([received, stream.wasReset, engine.streamCount], [10_000, false, 0]);
    const closed = once(stream, 'close');
    stream.write('to no reader');
    await closed;
    assert.deepEqual([stream.wasReset, stream.resetDetail], [true, 'RST_STREAM NO_ERROR']);
  });

  it('closes in order after that when it has nothing more to say', async () => {
    const { engine, stream } = start();
    engine.receive(Buffer.concat([data(10, 7, endStream), encodeFrame(frameType.rst, 0, 1, uint32(0))]));
    stream.resume();
    const closed = once(stream, 'close');
    stream.end();
    await closed;
    assert.deepEqual([stream.wasReset, stream.readableEnded, stream.writableFinished], [false, true, true]);
  });

  it('is broken by RST_STREAM NO_ERROR while bytes wait to be sent', async () => {
    const { engine, stream, frames } = start();
    stream.write(Buffer.alloc(100_000));
    frames();
    engine.receive(Buffer.concat([data(10, 7, endStream), encodeFrame(frameType.rst, 0, 1, uint32(0))]));
    await once(stream, 'close');
    assert.equal(stream.wasReset, true);
  });

  it('is done with a write when its bytes have left', async () => {
    const { engine, stream, frames } = start();
    let written = 0;
    stream.write(Buffer.alloc(60_000), () => (written += 1));
    stream.write(Buffer.alloc(60_000), () => (written += 1));
    assert.equal(stream.writableLength, 120_000);
    frames();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(written, 1, 'the window of 65,535 holds the rest back');
    assert.equal(stream.writableLength, 60_000);
    engine.receive(encodeFrame(frameType.window, 0, 1, uint32(100_000)));
    engine.receive(encodeFrame(frameType.window, 0, 0, uint32(100_000)));
    frames();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(written, 2);
  });

  it('closes when both sides have ended', async () => {
    const { engine, stream, frames } = start();
    const closed = once(stream, 'close');
    stream.resume();
    const finished = once(stream, 'finish');
    stream.end('bye');
    const first = frames();
    await finished;
    assert.ok([...first, ...frames()].some(({ type, flags }) => type === frameType.data && flags === endStream));
    engine.receive(data(0, 0, endStream));
    await closed;
    assert.deepEqual([stream.wasReset, stream.isGone, engine.streamCount], [false, true, 0]);
  });

  it('that the peer resets has no end, and says what came', async () => {
    const { engine, stream } = start();
    let ends = 0;
    stream.on('end', () => (ends += 1));
    stream.resume();
    const closed = once(stream, 'close');
    engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(errorCode.connectError)));
    await closed;
    assert.deepEqual([ends, stream.wasReset, stream.resetDetail], [0, true, 'RST_STREAM CONNECT_ERROR']);
  });

  it('that is destroyed is cancelled', async () => {
    const { stream, frames } = start();
    stream.destroy();
    await once(stream, 'close');
    assert.deepEqual(
      frames().map(({ type, payload }) => [type, payload.readUInt32BE()]),
      [[frameType.rst, errorCode.cancel]],
    );
  });

  it('tells what its tunnel died of', async () => {
    const { engine, stream } = start();
    stream.deathOfTunnel = () => 'tunnel ended: the connection closed';
    engine.abandon(errorCode.cancel);
    await once(stream, 'close');
    assert.deepEqual([stream.wasReset, stream.resetDetail], [true, 'tunnel ended: the connection closed']);
  });
});
