import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { TunnelRequest } from '../../agent/dataplane/tunnel/tunnel.js';
import type { TunnelStream } from '../../agent/dataplane/engine/tunnel-stream.js';
import { TestCa } from '../support/tunnel/tunnel-certificates.js';
import {
  closed,
  eventually,
  readAll,
  TunnelPair,
  withDeadline,
  type TunnelEngine,
} from '../support/tunnel/tunnel-pair.js';
import { workloadNamed } from '../support/routing/names.js';

const megabyte = 1_048_576;

/** How tunnels come, change and go in every engine: drain, dead peers, workloads that leave. */
export function runTunnelLifetimeContract(engine: TunnelEngine): void {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });

  describe(`a tunnel that dies (${engine.name})`, () => {
    it('resets its streams and says why; the next one opens on a new tunnel', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      near.resume();
      far.resume();
      pair.accepted[0]?.resetAndDestroy();
      await Promise.all([closed(near), closed(far)]);
      assert.equal(near.wasReset && far.wasReset, true);
      assert.match(near.resetDetail, /^tunnel to 127\.0\.0\.9:15008 ended: /);
      const stream = await pair.stream();
      stream.end('again');
      assert.equal((await readAll(stream)).toString(), 'again');
    });

    it('under requests that wait for their answer costs them nothing', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const answer = pair.onConnect;
      const waiting: TunnelRequest[] = [];
      pair.onConnect = (request) => waiting.push(request);
      const openings = Promise.all(Array.from({ length: 10 }, () => pair.stream()));
      await eventually('ten requests', () => waiting.length === 10);
      pair.onConnect = answer;
      pair.accepted[0]?.resetAndDestroy();
      for (const stream of await openings) {
        stream.end('x');
        assert.equal((await readAll(stream)).toString(), 'x');
      }
      assert.equal(pair.dialled.length, 2);
    });

    it('without a word is noticed by its PINGs on both sides', async () => {
      await using pair = await TunnelPair.start(engine, ca, { tunnelPingIntervalMs: 100, tunnelPingTimeoutMs: 200 });
      const cutWire = await pair.useWire();
      const { near, far } = await pair.streamPair();
      near.resume();
      far.resume();
      cutWire();
      await Promise.all([closed(near), closed(far)]);
      assert.match(near.resetDetail, /no PING answer within 200 ms/);
      assert.match(far.resetDetail, /no PING answer within 200 ms/);
    });

    it('is not what a tunnel is that only stalls: PINGs pass a stalled stream', async () => {
      await using pair = await TunnelPair.start(engine, ca, { tunnelPingIntervalMs: 20, tunnelPingTimeoutMs: 10_000 });
      const { near, far } = await pair.streamPair();
      near.end(Buffer.alloc(16 * megabyte));
      // The next PING is sent only after the answer to the last. The data stand still, and nothing else is as small.
      let read = 0;
      let pings = 0;
      await eventually('twenty PINGs in a row and no data', () => {
        const grown = (pair.accepted[0]?.bytesRead ?? 0) - read;
        read += grown;
        if (grown > 0) pings = grown < 1024 ? pings + 1 : 0;
        return pings >= 20;
      });
      assert.ok(read < 16 * megabyte, `${read} bytes were read`);
      assert.equal(near.wasReset, false);
      assert.equal((await readAll(far)).length, 16 * megabyte);
    });
  });

  describe(`a tunnel that ends (${engine.name})`, () => {
    it('because it is idle is opened again when it is needed', async () => {
      await using pair = await TunnelPair.start(engine, ca, { tunnelIdleTimeoutMs: 100 });
      const stream = await pair.stream();
      await new Promise((resolve) => setTimeout(resolve, 250));
      assert.equal(pair.client.counts().tunnels, 1);
      stream.end();
      await readAll(stream);
      await eventually('no tunnel', () => pair.client.counts().tunnels + pair.server.counts().tunnels === 0);
      await pair.stream();
      assert.equal(pair.dialled.length, 2);
    });

    it('by a drain lets its streams finish, and refuses new ones', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      const draining = Promise.all([pair.client.drain(5000), pair.server.drain(5000)]);
      const late = await pair.open();
      assert.equal(!late.ok && late.reason, 'DRAIN');
      near.end('the last words');
      far.end('heard');
      assert.equal((await readAll(far)).toString(), 'the last words');
      assert.equal((await readAll(near)).toString(), 'heard');
      await withDeadline('the drain', draining, 15_000);
    });

    it('by a drain whose grace is over resets what is left', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      near.resume();
      far.resume();
      await pair.server.drain(50);
      await Promise.all([closed(near), closed(far)]);
      assert.equal(near.wasReset && far.wasReset, true);
      assert.equal(pair.server.counts().tunnels, 0);
    });

    for (const side of ['client', 'server'] as const) {
      it(`because the workload of its ${side} left closes every socket at once`, async () => {
        await using pair = await TunnelPair.start(engine, ca);
        const { near, far } = await pair.streamPair();
        near.resume();
        far.resume();
        const sockets = side === 'client' ? pair.dialled : pair.accepted;
        const gone = Promise.all(sockets.map((socket) => once(socket, 'close')));
        pair[side].releaseWorkload(workloadNamed(side === 'client' ? 'shop/front' : 'shop/back'));
        await withDeadline('the sockets close', gone, 15_000);
        await Promise.all([closed(near), closed(far)]);
      });
    }

    it('leaves room for a hundred streams that all wait for a slow reader', async () => {
      await using pair = await TunnelPair.start(engine, ca, { streamWindowBytes: 131_072 });
      const accepted: TunnelStream[] = [];
      pair.onConnect = (request) => accepted.push(request.accept());
      const streams: TunnelStream[] = [];
      for (let index = 0; index < 95; index++) {
        const stream = await pair.stream();
        stream.write(Buffer.alloc(262_144));
        stream.end(Buffer.alloc(262_144));
        streams.push(stream);
      }
      assert.equal(streams.length, 95);
      const waiting = streams.reduce((sum, { writableLength }) => sum + writableLength, 0);
      assert.ok(waiting > 95 * 200_000);
      const received = await Promise.all(accepted.map((stream) => readAll(stream)));
      for (const bytes of received) assert.equal(bytes.length, 524_288);
    });
  });
}
