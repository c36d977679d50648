import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import type net from 'node:net';
import { once } from 'node:events';
import { BackpressureTracker } from '../../../../../agent/dataplane/relay/backpressure-tracker.js';
import { SocketPeer } from '../../../../support/agent/socket-peer.js';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { eventually, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';
import { relayed, RelayRoad, socketPair } from '../../../../support/agent/relay-road.js';

const megabyte = 1_048_576;
let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

async function received(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await withDeadline('the end', once(socket, 'end'), 60_000);
  return Buffer.concat(chunks);
}

/** The error that a socket ended with: `ECONNRESET` for an RST, null for a FIN. */
async function endOf(socket: net.Socket): Promise<string | null> {
  socket.resume();
  if (!socket.closed)
    await withDeadline(
      'the close',
      once(socket, 'close').catch(() => {}),
    );
  return socket.errored === null ? null : ((socket.errored as NodeJS.ErrnoException).code ?? '?');
}

for (const kind of ['socket', 'tunnel', 'lean tunnel', 'numbered socket', 'numbered lean tunnel'] as const) {
  describe(`a relay over a ${kind}`, () => {
    it('moves bytes both ways at once, counts them, and ends OK', async () => {
      await using road = await RelayRoad.start(kind, ca);
      const up = randomBytes(24 * megabyte);
      const down = randomBytes(32 * megabyte);
      road.client.end(up);
      road.server.end(down);
      const [atServer, atClient] = await Promise.all([received(road.server), received(road.client)]);
      assert.equal(digest(atServer), digest(up));
      assert.equal(digest(atClient), digest(down));
      assert.equal((await road.outcome).reason, 'OK');
      assert.equal((await road.farOutcome).reason, 'OK');
      assert.equal(road.counters.bytesSent, up.length);
      assert.equal(road.counters.bytesReceived, down.length);
      assert.ok(road.counters.firstByteAtMs !== null);
    });

    it('moves thousands of small messages without waiting', async () => {
      await using road = await RelayRoad.start(kind, ca);
      road.server.on('data', (chunk: Buffer) => road.server.write(chunk));
      for (let index = 0; index < 2000; index++) {
        road.client.write(`message ${index}`);
        await once(road.client, 'data');
      }
      road.client.end();
      road.server.end();
      assert.equal((await road.outcome).reason, 'OK');
    });

    for (const first of ['client', 'server'] as const) {
      it(`keeps the other direction open after the ${first} has closed its own`, async () => {
        await using road = await RelayRoad.start(kind, ca);
        const other = first === 'client' ? road.server : road.client;
        const atOther = received(other);
        road[first].end('question');
        assert.equal((await atOther).toString(), 'question');
        const answer = randomBytes(8 * megabyte);
        const back = received(road[first]);
        other.end(answer);
        assert.ok((await back).equals(answer));
        const outcome = await road.outcome;
        assert.equal(outcome.reason, 'OK');
        assert.equal(outcome.endedBy, first === 'client' ? 'source' : 'destination');
      });

      it(`hands on the reset of the ${first}`, async () => {
        await using road = await RelayRoad.start(kind, ca);
        const other = first === 'client' ? road.server : road.client;
        road.client.write('hello');
        await once(road.server, 'data');
        road.server.write('hello');
        await once(road.client, 'data');
        road[first].resetAndDestroy();
        assert.equal(await endOf(other), 'ECONNRESET');
        const expected = first === 'client' ? 'CLIENT_RESET' : 'PEER_RESET';
        assert.equal((await road.outcome).reason, expected);
        assert.equal((await road.farOutcome).reason, expected);
      });

      it(`hands on the reset of the ${first} after the other side has closed its own direction`, async () => {
        await using road = await RelayRoad.start(kind, ca);
        const other = first === 'client' ? road.server : road.client;
        other.end();
        road[first].resume();
        await once(road[first], 'end');
        road[first].resetAndDestroy();
        other.on('data', () => {});
        assert.equal(await endOf(other), 'ECONNRESET');
      });
    }

    it('moves nothing at all and ends OK', async () => {
      await using road = await RelayRoad.start(kind, ca);
      road.client.end();
      road.server.end();
      road.client.resume();
      road.server.resume();
      assert.equal((await road.outcome).reason, 'OK');
      assert.equal(road.counters.firstByteAtMs, null);
    });

    it('knows how many bytes wait for a late receiver, and that they do no more when it has read them', async () => {
      await using road = await RelayRoad.start(kind, ca);
      assert.deepEqual(road.backpressure.waiting(), { bytesInAll: 0, bySlot: new Map() });
      const all = 64 * megabyte;
      road.client.end(Buffer.alloc(all));
      await eventually('bytes wait', () => {
        const { bytesInAll, bySlot } = road.backpressure.waiting();
        return bytesInAll >= 65_536 && bySlot.get(1) === bytesInAll;
      });
      assert.equal((await received(road.server)).length, all);
      assert.equal(road.backpressure.waiting().bytesInAll, 0);
    });

    it('counts nothing any more of a connection that was reset while bytes waited', async () => {
      await using road = await RelayRoad.start(kind, ca);
      road.client.on('error', () => {});
      road.client.write(Buffer.alloc(64 * megabyte));
      await eventually('bytes wait', () => road.backpressure.waiting().bytesInAll > 0);
      road.server.resetAndDestroy();
      await Promise.all([road.outcome, road.farOutcome]);
      assert.deepEqual(road.backpressure.waiting(), { bytesInAll: 0, bySlot: new Map() });
    });

    it('holds a fast sender back while the receiver reads nothing', async () => {
      await using road = await RelayRoad.start(kind, ca);
      const before = process.memoryUsage.rss();
      const block = Buffer.alloc(megabyte, 7);
      let written = 0;
      const pump = (): void => {
        while (written < 100 && road.client.write(block)) written += 1;
      };
      road.client.on('drain', () => {
        written += 1;
        pump();
      });
      pump();
      let last = -1;
      let stillSinceMs = performance.now();
      await eventually('the sender stands still', () => {
        if (road.counters.bytesSent !== last) stillSinceMs = performance.now();
        last = road.counters.bytesSent;
        return performance.now() - stillSinceMs > 300;
      });
      assert.ok(road.counters.bytesSent < 20 * megabyte, `${road.counters.bytesSent} bytes went into the relay`);
      assert.ok(process.memoryUsage.rss() - before < 64 * megabyte);
      road.server.resume();
      await eventually('everything arrives', () => road.counters.bytesSent >= 100 * megabyte, 60_000);
    });

    it('is cut by its signal, with RST to both applications', async () => {
      const signal = new TerminationSignal();
      const rule = { kind: 'SegmentationRule', name: 'no' } as const;
      await using road = await RelayRoad.start(kind, ca, { signal });
      signal.raise(new ConnectionCut({ reason: 'POLICY_TERMINATED', rule }));
      assert.deepEqual(await road.outcome, {
        reason: 'POLICY_TERMINATED',
        endedBy: 'agent',
        rule,
        detail: '',
      });
      assert.equal(await endOf(road.client), 'ECONNRESET');
      assert.equal(await endOf(road.server), 'ECONNRESET');
    });

    it('is ended by its idle limit, and not while bytes move', async () => {
      await using road = await RelayRoad.start(kind, ca, { idleTimeoutMs: 200 });
      const startedAtMs = performance.now();
      const beats = setInterval(() => road.server.write('.'), 50);
      road.client.resume();
      await eventually('half a second of bytes', () => performance.now() - startedAtMs > 500);
      assert.equal(road.client.closed, false);
      clearInterval(beats);
      assert.equal((await withDeadline('the limit', road.outcome, 15_000)).reason, 'IDLE_TIMEOUT');
      assert.equal(await endOf(road.client), 'ECONNRESET');
    });

    it('is ended by its longest duration', async () => {
      await using road = await RelayRoad.start(kind, ca, { maxDurationMs: 100 });
      assert.equal((await withDeadline('the limit', road.outcome, 15_000)).reason, 'MAX_DURATION');
      assert.equal(await endOf(road.server), 'ECONNRESET');
    });

    it('is ended when one direction stays closed for too long', async () => {
      await using road = await RelayRoad.start(kind, ca, { halfCloseTimeoutMs: 150 });
      road.server.resume();
      road.client.end();
      const outcome = await withDeadline('the limit', road.outcome, 15_000);
      assert.equal(outcome.reason, 'IDLE_TIMEOUT');
      assert.match(outcome.detail, /half-closed/);
    });
  });
}

describe('a relay that starts too late', () => {
  it('says that the source has gone, and resets the destination', async () => {
    const [client, source] = await socketPair();
    const [destination, server] = await socketPair();
    source.resume();
    client.resetAndDestroy();
    await eventually('the source is gone', () => source.closed);
    const outcome = await relayed({
      source: new SocketPeer(source),
      destination: new SocketPeer(destination),
      counters: { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null },
      halfCloseTimeoutMs: 0,
      idleTimeoutMs: 0,
      maxDurationMs: 0,
      signal: new TerminationSignal(),
      workloads: [],
      throttles: null,
      shadow: null,
      backpressure: new BackpressureTracker(),
    });
    assert.equal(outcome.reason, 'CLIENT_RESET');
    assert.equal(outcome.detail, 'ECONNRESET');
    assert.equal(await endOf(server), 'ECONNRESET');
  });
});

describe('a relay that is cut in the turn in which one side ends', () => {
  for (const first of ['source', 'destination'] as const) {
    it(`ends all the same, when that is the ${first}`, async () => {
      const [client, source] = await socketPair();
      const [destination, server] = await socketPair();
      const signal = new TerminationSignal();
      const outcome = relayed({
        source: new SocketPeer(source),
        destination: new SocketPeer(destination),
        counters: { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null },
        halfCloseTimeoutMs: 0,
        idleTimeoutMs: 0,
        maxDurationMs: 0,
        signal,
        workloads: [],
        throttles: null,
        shadow: null,
        backpressure: new BackpressureTracker(),
      });
      // After the relay has passed the end on, and before the FIN has left.
      const ended = first === 'source' ? source : destination;
      ended.on('end', () => signal.raise(new ConnectionCut({ reason: 'DRAIN' })));
      if (first === 'source') client.end();
      else server.end();
      assert.equal((await withDeadline('the end of the relay', outcome)).reason, 'DRAIN');
      assert.deepEqual([source.closed, destination.closed], [true, true]);
      assert.deepEqual(await Promise.all([endOf(client), endOf(server)]), ['ECONNRESET', 'ECONNRESET']);
    });
  }
});

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
