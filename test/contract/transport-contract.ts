import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { LeanStream } from '../../agent/dataplane/engine/lean/lean-stream.js';
import { LeanSession } from '../../agent/dataplane/engine/lean/lean-session.js';
import type { Transport, TransportOwner } from '../../agent/dataplane/engine/lean/transport.js';
import { writeArenas } from '../../agent/dataplane/engine/lean/write-arenas.js';
import { Reactor } from '../../agent/dataplane/io/reactor.js';
import { clientIdentity, serverIdentity, TestCa } from '../support/tunnel/tunnel-certificates.js';
import { transportPair, type TransportKind } from '../support/tunnel/transport-pair.js';
import { echo, eventually, readAll, withDeadline } from '../support/tunnel/tunnel-pair.js';
import type { TunnelCertificates } from '../../agent/dataplane/tunnel/tunnel.js';

/** Notes all that it is told, and writes as fast as the transport takes it. */
class Owner implements TransportOwner {
  readonly transport: Transport;
  readonly sha = createHash('sha256');
  bytes = 0;
  written = 0;
  outputs = 0;
  closed = 0;
  /** Writes of which no `onWritten` has come. */
  underWay = 0;
  #left: Buffer = Buffer.alloc(0);
  #endsBehind = false;

  constructor(transport: Transport) {
    this.transport = transport;
    transport.start(this);
  }

  onBytes(bytes: Buffer): void {
    assert.equal(this.closed, 0);
    this.bytes += bytes.length;
    this.sha.update(bytes);
    // Lent until this returns: what reads it later reads something else.
    bytes.fill(0);
  }

  onWritten(): void {
    this.underWay -= 1;
    assert.equal(this.underWay, 0);
    this.#writeNext();
  }

  onOutput(): void {
    this.outputs += 1;
  }

  onClosed(): void {
    this.closed += 1;
  }

  /** One write after the other, then the end where it is wanted. */
  send(bytes: Buffer, { ends = false } = {}): void {
    this.#left = bytes;
    this.#endsBehind = ends;
    this.#writeNext();
  }

  #writeNext(): void {
    if (this.#left.length === 0) {
      if (this.#endsBehind) this.transport.end();
      return;
    }
    const part = this.#left.subarray(0, this.transport.writeBytes);
    this.#left = this.#left.subarray(part.length);
    const arena = writeArenas.take(part.length);
    part.copy(arena);
    this.underWay += 1;
    this.written += part.length;
    this.transport.write([arena.subarray(0, part.length)]);
    assert.equal(this.underWay, 1, 'told within the write');
  }
}

/** What a session of HTTP/2 relies on in every transport, here with one of either kind at the other end. */
export function runTransportContract(near: TransportKind, far: TransportKind): void {
  const name = `${near} with ${far}`;
  let certificates: { readonly client: TunnelCertificates; readonly server: TunnelCertificates };
  before(async () => {
    const ca = await TestCa.create();
    certificates = { client: await ca.first(clientIdentity), server: await ca.first(serverIdentity) };
  });
  after(() => assert.equal(Reactor.ofThread().calls.ioCounts(), 0));

  async function owners(): Promise<readonly [Owner, Owner]> {
    const [a, b] = await transportPair([near, far], certificates);
    return [new Owner(a), new Owner(b)];
  }

  async function closed(...all: readonly Owner[]): Promise<void> {
    await eventually('both ends are closed', () => all.every((owner) => owner.closed > 0));
    assert.deepEqual(
      all.map((owner) => [owner.closed, owner.transport.isDestroyed]),
      all.map(() => [1, true]),
    );
  }

  describe(`a transport (${name})`, () => {
    it('carries bytes both ways at once, one write after the other', async () => {
      const [a, b] = await owners();
      const bytes = randomBytes(9_000_001);
      const sha = createHash('sha256').update(bytes).digest('hex');
      a.send(bytes);
      b.send(bytes);
      await eventually('all of it', () => [a, b].every((owner) => owner.bytes === bytes.length));
      assert.deepEqual([a.sha.digest('hex'), b.sha.digest('hex')], [sha, sha]);
      await eventually('the writes are done', () => a.underWay + b.underWay === 0);
      a.transport.destroy();
      await closed(a, b);
    });

    // Node's TLS as the reader of Node's TLS can end in front of what has come. A session ends when no stream is left.
    const isNodeOnly = near === 'socket' && far === 'socket';
    if (!isNodeOnly)
      it('brings all that was written before its end, and then closes at both ends', async () => {
        const [a, b] = await owners();
        const bytes = randomBytes(3_000_001);
        a.send(bytes, { ends: true });
        await closed(a, b);
        assert.equal(b.bytes, bytes.length);
        assert.deepEqual(b.sha.digest(), createHash('sha256').update(bytes).digest());
      });

    it('is not told to write more than the other end takes, and goes on when that reads', async () => {
      const [a, b] = await owners();
      b.transport.pause();
      const bytes = randomBytes(40_000_000);
      a.send(bytes);
      let seen = -1;
      let still = 0;
      await eventually('the writer stands still', () => {
        still = a.written === seen ? still + 1 : 0;
        seen = a.written;
        return still > 20;
      });
      assert.ok(a.written < 30_000_000, `${a.written} bytes were taken`);
      assert.ok(b.bytes <= 2_000_000, `${b.bytes} came to a reader that had paused`);
      b.transport.resume();
      await eventually('all of it', () => b.bytes === bytes.length);
      assert.deepEqual(b.sha.digest(), createHash('sha256').update(bytes).digest());
      b.transport.destroy();
      await closed(a, b);
    });

    it('tells a reader that has paused no end before it goes on', async () => {
      const [a, b] = await owners();
      b.transport.pause();
      a.send(Buffer.from('the last words'), { ends: true });
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(b.closed, 0);
      b.transport.resume();
      await closed(a, b);
      assert.equal(b.bytes, 14);
    });

    it('that is destroyed tells nothing but its close, and that later; its peer closes', async () => {
      const [a, b] = await owners();
      b.send(randomBytes(5_000_000));
      await eventually('something comes', () => a.bytes > 0);
      a.transport.wantOutput();
      a.transport.destroy();
      assert.equal(a.closed, 0);
      const { bytes } = a;
      a.transport.destroy();
      await closed(a, b);
      assert.deepEqual([a.bytes, a.outputs], [bytes, 0]);
    });

    it('asks for output once, at the end of the turn', async () => {
      const [a, b] = await owners();
      for (const owner of [a, b]) {
        for (let time = 0; time < 3; time += 1) owner.transport.wantOutput();
        assert.equal(owner.outputs, 0);
      }
      for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
      assert.deepEqual([a.outputs, b.outputs], [1, 1]);
      a.transport.destroy();
      await closed(a, b);
    });

    it('that is gone before it was started says so', async () => {
      const [a, b] = await transportPair([near, far], certificates);
      a.destroy();
      const late = new Owner(a);
      assert.equal(late.closed, 0);
      await closed(late, new Owner(b));
    });
  });

  describe(`HTTP/2 over a transport (${name})`, () => {
    const limits = {
      firstWindowBytes: 131_072,
      streamWindowBytes: 4_194_304,
      connectionWindowBytes: 16_777_216,
      maxFrameBytes: 1_048_576,
      maxStreams: 100,
      maxHeaderListBytes: 16_384,
      maxHeaderFields: 32,
    };

    it('echoes many streams at once, and ends in order', async () => {
      const [a, b] = await transportPair([near, far], certificates);
      const server = new LeanSession({ transport: b, role: 'server', limits });
      server.on('stream', (stream) => {
        stream.on('error', () => {});
        stream.respond({ ':status': 200 });
        echo(stream);
      });
      const client = new LeanSession({ transport: a, role: 'client', limits });
      const gone = Promise.all([once(client, 'close'), once(server, 'close')]);
      const sent = randomBytes(700_001);
      const streams = Array.from({ length: 30 }, (): LeanStream => {
        return client.request({ ':method': 'CONNECT', ':authority': '127.0.0.9:80' });
      });
      const received = streams.map((stream) => readAll(stream));
      for (const stream of streams) stream.end(sent);
      for (const bytes of await Promise.all(received)) assert.ok(bytes.equals(sent));
      client.close();
      await withDeadline('both sessions close', gone);
    });

    it('resets the streams of both sides when it is destroyed', async () => {
      const [a, b] = await transportPair([near, far], certificates);
      const server = new LeanSession({ transport: b, role: 'server', limits });
      const accepted: LeanStream[] = [];
      server.on('stream', (stream) => {
        accepted.push(stream as LeanStream);
        stream.on('error', () => {});
        stream.respond({ ':status': 200 });
        stream.resume();
      });
      const client = new LeanSession({ transport: a, role: 'client', limits });
      const gone = Promise.all([once(client, 'close'), once(server, 'close')]);
      const stream = client.request({ ':method': 'CONNECT', ':authority': '127.0.0.9:80' });
      stream.on('error', () => {});
      stream.resume();
      await withDeadline('the answer', once(stream, 'response'));
      client.destroy();
      await withDeadline('both sessions close', gone);
      assert.deepEqual([stream.wasReset, accepted[0]?.wasReset], [true, true]);
    });
  });
}
