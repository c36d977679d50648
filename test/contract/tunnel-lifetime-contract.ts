import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { TunnelCertificates, TunnelRequest, TunnelStream } from '../../agent/dataplane/tunnel/tunnel.js';
import { clientIdentity, serverIdentity, TestCa } from './tunnel-certificates.js';
import { closed, eventually, readAll, serverIp, TunnelPair, withDeadline, type TunnelEngine } from './tunnel-pair.js';
import { encodeFrame, frameType } from './tunnel-raw-peer.js';

const megabyte = 1_048_576;

/** How tunnels come, change and go in every engine: rotation, drain, dead peers, workloads that leave. */
export function runTunnelLifetimeContract(engine: TunnelEngine): void {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });

  describe(`certificates that are replaced (${engine.name})`, () => {
    for (const side of ['client', 'server'] as const) {
      it(`on the ${side} drop no stream, and new ones prove the new certificate`, async () => {
        await using pair = await TunnelPair.start(engine, ca);
        const live = await Promise.all(Array.from({ length: 10 }, () => pair.stream()));
        const payload = randomBytes(megabyte);
        const received = live.map((stream) => readAll(stream));
        for (const stream of live) stream.write(payload);
        pair[side].replaceCertificates(await ca.issue(side === 'client' ? clientIdentity : serverIdentity));
        const fresh = await pair.stream();
        fresh.end('fresh');
        assert.equal((await readAll(fresh)).toString(), 'fresh');
        assert.equal(pair.dialled.length, 2);
        for (const stream of live) stream.end(payload);
        for (const bytes of await Promise.all(received)) assert.ok(bytes.equals(Buffer.concat([payload, payload])));
        await eventually('the old tunnel is gone', () => pair.client.counts().tunnels === 1);
      });
    }

    it('again and again fail none of the connections meanwhile', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const certificates: TunnelCertificates[] = [];
      for (let index = 0; index < 8; index++) {
        certificates.push(await ca.issue(index % 2 === 0 ? clientIdentity : serverIdentity));
      }
      let rotations = 0;
      let connections = 0;
      const worker = async (): Promise<void> => {
        while (rotations < certificates.length) {
          const stream = await pair.stream();
          const payload = randomBytes(20_000);
          stream.end(payload);
          assert.ok((await readAll(stream)).equals(payload));
          connections += 1;
          if (connections % 8 !== 0) continue;
          // By number and not by time, so that a slow machine has as many connections between two rotations.
          const next = certificates[rotations];
          if (next !== undefined) (rotations % 2 === 0 ? pair.client : pair.server).replaceCertificates(next);
          rotations += 1;
        }
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      assert.ok(connections > 50, `${connections} connections`);
      assert.ok(pair.dialled.length > 4, `${pair.dialled.length} tunnels`);
    });

    it('on the server between a handshake and its first request cost that request nothing', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { certificates, rootsPem } = await ca.issue(serverIdentity);
      const { chainPem, keyPem } = certificates[0] ?? assert.fail();
      let turns = 0;
      let isSecure = false;
      const leaving = tls.createServer(
        { cert: chainPem, key: keyPem, ca: rootsPem, requestCert: true, minVersion: 'TLSv1.3', ALPNProtocols: ['h2'] },
        (socket) => {
          turns += 1;
          isSecure = true;
          socket.on('error', () => {});
          const goaway = encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(8));
          socket.write(encodeFrame(frameType.settings, 0, 0));
          socket.write(goaway);
          socket.end(goaway);
          socket.resume();
        },
      );
      leaving.listen(0, serverIp);
      await once(leaving, 'listening');
      const address = leaving.address();
      assert.ok(address !== null && typeof address === 'object');
      const accept = pair.server.accept.bind(pair.server);
      pair.server.accept = (socket, listener) => {
        if (turns === 2) {
          accept(socket, listener);
          return;
        }
        isSecure = false;
        // A client that was slow to read: what comes after the handshake, to the end, it gets at once.
        const held: Buffer[] = [];
        const server = net.connect({ host: serverIp, port: address.port });
        for (const end of [socket, server]) end.on('error', () => {});
        socket.on('data', (chunk: Buffer) => server.write(chunk));
        socket.resume();
        server.on('data', (chunk: Buffer) => void (isSecure ? held.push(chunk) : socket.write(chunk)));
        server.once('end', () => socket.end(Buffer.concat(held)));
      };
      const stream = await pair.stream();
      stream.end('heard');
      assert.equal((await readAll(stream)).toString(), 'heard');
      assert.deepEqual([turns, pair.dialled.length], [2, 3]);
      leaving.close();
    });

    it('that stay the same keep their tunnels', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const same = await ca.issue(clientIdentity);
      pair.client.replaceCertificates(same);
      await pair.stream();
      pair.client.replaceCertificates({ ...same, certificates: [...same.certificates] });
      await pair.stream();
      assert.equal(pair.dialled.length, 1);
    });

    it('with new roots end the trust in the old ones', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await pair.stream();
      const next = await TestCa.create();
      pair.client.replaceCertificates(await next.issue(clientIdentity));
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
      pair.server.replaceCertificates(await next.issue(serverIdentity));
      assert.equal((await pair.open()).ok, true);
    });
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
      // The next PING is sent only after the answer to the last. Beside the data, which stand still, nothing is as small.
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
        pair[side].releaseWorkload(side === 'client' ? 'shop/front' : 'shop/back');
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
      assert.ok(pair.client.counts().bufferedBytes > 95 * 200_000);
      const received = await Promise.all(accepted.map((stream) => readAll(stream)));
      for (const bytes of received) assert.equal(bytes.length, 524_288);
    });
  });
}
