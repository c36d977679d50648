import { describe, it, type TestContext } from 'node:test';
import assert from 'node:assert/strict';
import type net from 'node:net';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { BackpressureTracker } from '../../../../../agent/dataplane/relay/backpressure-tracker.js';
import { RelayDirection, type RelayedConnection } from '../../../../../agent/dataplane/relay/relay-direction.js';
import type { RelayPeer } from '../../../../../agent/dataplane/relay/relay-peer.js';
import { SocketPeer } from '../../../../support/agent/socket-peer.js';
import { StreamPeer } from '../../../../../agent/dataplane/relay/stream-peer.js';
import type { TunnelStream } from '../../../../../agent/dataplane/engine/tunnel-stream.js';
import { eventually, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';
import { socketPair } from '../../../../support/agent/relay-road.js';

/** A stream of a tunnel that gives what the test lends, and notes what is written to it. */
class TestStream extends Duplex implements TunnelStream {
  readonly wasReset = false;
  readonly resetDetail = '';
  readonly isTunnelLost = false;
  readonly isGone = false;
  readonly written: string[] = [];
  lend: (bytes: Buffer) => void = () => {};
  /** How much it takes at once; what is beyond it must be written. */
  roomBytes = 0;

  reset(): void {
    this.destroy();
  }

  lendTo(reader: (bytes: Buffer) => void): void {
    this.lend = reader;
  }

  writeNow(bytes: Buffer): number {
    const taken = Math.min(this.roomBytes, bytes.length);
    this.roomBytes -= taken;
    if (taken > 0) this.written.push(`now ${bytes.subarray(0, taken).toString()}`);
    return taken;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.written.push(`queued ${chunk.toString()}`);
    callback();
  }
}

async function toSocket(
  t: TestContext,
  highWaterMark?: number,
): Promise<{
  readonly stream: TestStream;
  readonly socket: net.Socket;
  readonly application: net.Socket;
  readonly flush: () => void;
  readonly counted: () => number;
}> {
  const [application, socket] = await socketPair(highWaterMark);
  const stream = new TestStream();
  t.after(async () => {
    const gone = [socket, application].filter(({ closed }) => !closed).map((each) => once(each, 'close'));
    for (const each of [socket, application, stream]) each.destroy();
    await Promise.all(gone);
  });
  let bytes = 0;
  const peer = new SocketPeer(socket);
  pump(new StreamPeer(stream), peer, (count) => (bytes += count));
  stream.resume();
  return { stream, socket, application, flush: () => peer.flush(), counted: () => bytes };
}

/** Of both directions between two sides the one that brings bytes to the second. */
function pump(from: RelayPeer, to: RelayPeer, onBytes: (count: number) => void): void {
  const connection: RelayedConnection = {
    moved: (_side, count) => onBytes(count),
    ended: () => {},
    broke: () => {},
    gone: () => {},
  };
  const common = { workloads: [], throttle: null, copy: null, backpressure: new BackpressureTracker(), connection };
  const there = new RelayDirection({ side: 'source', from, to, ...common });
  const back = new RelayDirection({ side: 'destination', from: to, to: from, ...common });
  there.open(back);
  back.open(there);
}

/** TLS hands out so much at a time. */
function record(fill: number): Buffer {
  return Buffer.alloc(16_384, fill);
}

describe('what a tunnel brings for an application', () => {
  it('is written in few pieces at the end of the turn, in order, though the memory was only lent', async (t) => {
    const { stream, socket, application, counted } = await toSocket(t);
    const write = t.mock.method(socket, 'write');
    const lent = record(0);
    const wanted: Buffer[] = [];
    for (let index = 1; index <= 10; index++) {
      const bytes = lent.fill(index).subarray(0, index === 5 ? 10 : 16_384);
      wanted.push(Buffer.from(bytes));
      stream.lend(bytes);
    }
    lent.fill(0);
    const all = Buffer.concat(wanted);
    assert.equal(counted(), all.length);
    let received = Buffer.alloc(0);
    application.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])));
    await eventually('everything', () => received.length === all.length);
    assert.ok(received.equals(all));
    assert.ok(write.mock.callCount() <= 3, `${write.mock.callCount()} writes`);
  });

  it('goes out at once when it is little and nothing waits', async (t) => {
    const { stream, socket } = await toSocket(t);
    stream.lend(Buffer.from('hello'));
    assert.equal(socket.bytesWritten, 5);
  });

  it('is not written byte by byte when it comes so in one turn', async (t) => {
    const { stream, socket, application } = await toSocket(t);
    const write = t.mock.method(socket, 'write');
    for (let index = 0; index < 1000; index++) stream.lend(Buffer.from('x'));
    assert.equal(socket.bytesWritten, 1, 'the first one goes at once');
    let received = 0;
    application.on('data', (chunk: Buffer) => (received += chunk.length));
    await eventually('everything', () => received === 1000);
    assert.equal(write.mock.callCount(), 2);
    await turn();
    stream.lend(Buffer.from('y'));
    assert.equal(socket.bytesWritten, 1001, 'and so does the first one of a later turn');
  });

  it('leaves before the end of the turn when it is asked for', async (t) => {
    const { stream, socket, application, flush } = await toSocket(t);
    stream.lend(record(1));
    assert.equal(socket.bytesWritten, 0, 'not yet');
    flush();
    socket.end();
    const chunks: Buffer[] = [];
    application.on('data', (chunk: Buffer) => chunks.push(chunk));
    await withDeadline('the end', once(application, 'end'));
    assert.ok(Buffer.concat(chunks).equals(record(1)));
    await turn();
    assert.equal(socket.errored, null);
  });

  it('counts what is not written yet as waiting', async (t) => {
    const { stream, socket } = await toSocket(t);
    socket.cork();
    socket.write(Buffer.alloc(40_000));
    stream.lend(record(1));
    assert.equal(stream.isPaused(), false);
    stream.lend(record(2));
    assert.equal(stream.isPaused(), true);
  });

  it('goes on when nothing of it had to wait after all', async (t) => {
    const { stream } = await toSocket(t, 1_048_576);
    for (let index = 0; index < 4; index++) stream.lend(record(index));
    assert.equal(stream.isPaused(), true);
    await turn();
    await eventually('the stream flows again', () => !stream.isPaused());
  });

  it('stops at its bound, also before anything was written, and goes on when that is gone', async (t) => {
    const { stream, socket, application } = await toSocket(t);
    let lent = 0;
    const lendUntilPaused = (): void => {
      for (; !stream.isPaused(); lent += 16_384) stream.lend(record(7));
    };
    lendUntilPaused();
    assert.equal(lent, 65_536, 'what an application gets that has not shown that it reads');
    // It reads nothing, so the kernel's buffers fill, and then the pause lasts.
    for (let turns = 0; turns < 3; turns = stream.isPaused() ? turns + 1 : 0) {
      lendUntilPaused();
      await turn();
    }
    assert.ok(socket.writableLength <= 262_144 + 16_384, String(socket.writableLength));
    let received = 0;
    application.on('data', (chunk: Buffer) => (received += chunk.length));
    await eventually('everything', () => received === lent);
    await eventually('the stream flows again', () => !stream.isPaused());
  });
});

describe('what an application sends into a tunnel', () => {
  it('goes at once as far as there is room, and what is left is queued behind it', async (t) => {
    const [application, socket] = await socketPair();
    const stream = new TestStream();
    t.after(async () => {
      const gone = [socket, application].map((each) => once(each, 'close'));
      for (const each of [socket, application, stream]) each.destroy();
      await Promise.all(gone);
    });
    stream.roomBytes = 8;
    pump(new SocketPeer(socket), new StreamPeer(stream), () => {});
    application.write('hello, world');
    await eventually('both parts', () => stream.written.length === 2);
    assert.deepEqual(stream.written, ['now hello, w', 'queued orld']);
  });
});
