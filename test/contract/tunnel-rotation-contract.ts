import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { TunnelCertificates } from '../../agent/dataplane/tunnel/tunnel.js';
import type { WorkloadName } from '../../shared/routing/names.js';
import { clientIdentity, serverIdentity, TestCa } from '../support/tunnel/tunnel-certificates.js';
import { eventually, readAll, serverIp, TunnelPair, type TunnelEngine } from '../support/tunnel/tunnel-pair.js';
import { encodeFrame, frameType } from '../support/tunnel/tunnel-raw-peer.js';
import { workloadNamed } from '../support/routing/names.js';

const megabyte = 1_048_576;

/** How certificates are replaced under tunnels, in every engine, and what a request notices of it. */
export function runTunnelRotationContract(engine: TunnelEngine): void {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });

  describe(`certificates that are replaced (${engine.name})`, () => {
    for (const side of ['client', 'server'] as const) {
      it(`on the ${side} drop no stream, and new ones come on a new tunnel`, async () => {
        await using pair = await TunnelPair.start(engine, ca);
        if (side === 'server') await endAtOnce(ca, pair);
        const live = await Promise.all(Array.from({ length: 10 }, () => pair.stream()));
        const payload = randomBytes(megabyte);
        const received = live.map((stream) => readAll(stream));
        for (const stream of live) stream.write(payload);
        pair[side].replaceCertificates(await ca.issue(side === 'client' ? clientIdentity : serverIdentity));
        await eventually('a second tunnel', () => pair.client.counts().tunnels === 2);
        await eventually('new streams come on it', () => isSpread(pair, [10, 0]));
        const fresh = await pair.stream();
        assert.ok(isSpread(pair, [10, 1]));
        fresh.end('fresh');
        assert.equal((await readAll(fresh)).toString(), 'fresh');
        assert.equal(pair.dialled.length, 2);
        for (const stream of live) stream.end(payload);
        for (const bytes of await Promise.all(received)) assert.ok(bytes.equals(Buffer.concat([payload, payload])));
        await eventually('the old tunnel is gone', () => pair.client.counts().tunnels === 1);
      });
    }

    it('on the client let no request wait for the handshake', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await exchange(pair);
      const release = holdHandshakes(pair);
      pair.client.replaceCertificates(await ca.issue(clientIdentity));
      await expectNobodyWaits(pair, release);
    });

    it('on the server let no request wait for the handshake, because clients come first', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      // A quarter of its life until the client replaces the tunnel, half until the server says GOAWAY.
      pair.server.replaceCertificates(await ca.issue(serverIdentity, { ttlMs: 20_000 }));
      await exchange(pair);
      pair.server.replaceCertificates(await ca.issue(serverIdentity));
      const release = holdHandshakes(pair);
      await expectNobodyWaits(pair, release);
    });

    it('with a GOAWAY under a tunnel in use bring a new one before it is asked for', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await endAtOnce(ca, pair);
      const held = await pair.stream();
      pair.server.replaceCertificates(await ca.issue(serverIdentity));
      await eventually('a second tunnel', () => pair.client.counts().tunnels === 2);
      held.end();
      await readAll(held);
      await eventually('the first is gone', () => pair.client.counts().tunnels === 1);
      await exchange(pair);
      assert.equal(pair.dialled.length, 2);
    });

    it('that the other side does not take leave nothing behind of the old ones', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await exchange(pair);
      pair.client.replaceCertificates(await ca.issue(clientIdentity, { startsInMs: 3_600_000, ttlMs: 7_200_000 }));
      await eventually('the old tunnel is gone', () => pair.client.counts().tunnels === 0);
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'CERT_NOT_YET_VALID');
    });

    it('again and again fail none of the connections meanwhile', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await endAtOnce(ca, pair);
      const certificates: TunnelCertificates[] = [];
      for (let index = 0; index < 8; index++) {
        certificates.push(await (index % 2 === 0 ? ca.issue(clientIdentity) : issueOver(ca)));
      }
      let rotations = 0;
      let connections = 0;
      let isRotating = false;
      const rotate = async (next: TunnelCertificates): Promise<void> => {
        const last = pair.dialled.length - 1;
        (rotations % 2 === 0 ? pair.client : pair.server).replaceCertificates(next);
        await eventually('its tunnel is replaced', () => pair.dialled[last]?.closed === true);
        await exchange(pair);
        rotations += 1;
      };
      const worker = async (): Promise<void> => {
        while (rotations < certificates.length) {
          const stream = await pair.stream();
          const payload = randomBytes(20_000);
          stream.end(payload);
          assert.ok((await readAll(stream)).equals(payload));
          connections += 1;
          // By number and not by time, so that a slow machine has as many connections between two rotations.
          const next = certificates[rotations];
          if (connections % 8 !== 0 || isRotating || next === undefined) continue;
          isRotating = true;
          await rotate(next);
          isRotating = false;
        }
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      assert.ok(connections > 50, `${connections} connections`);
      assert.ok(pair.dialled.length > certificates.length, `${pair.dialled.length} tunnels`);
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
      // A handshake that began before may be under way.
      let isOpen = false;
      for (let turn = 0; turn < 5 && !isOpen; turn++) isOpen = (await pair.open()).ok;
      assert.ok(isOpen);
    });
  });

  describe(`roots that are replaced during a handshake (${engine.name})`, () => {
    it('leave no tunnel that was proved by the old ones', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const next = await (await TestCa.create()).issue(serverIdentity);
      const accept = pair.server.accept.bind(pair.server);
      pair.server.accept = (socket, listener) => {
        accept(socket, listener);
        const raw = pair.dialled.at(-1);
        // The server has answered, and what the client says to that has not come.
        const replaceInTime = (): void => {
          if ((raw?.bytesRead ?? 0) > 0) pair.server.replaceCertificates(next);
          else setImmediate(replaceInTime);
        };
        replaceInTime();
      };
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
      assert.equal(pair.dialled.length, 2);
      await eventually('none is left', () => pair.server.counts().tunnels === 0);
    });
  });

  describe(`handshakes with one address (${engine.name})`, () => {
    it('are sixteen at a time, and others do not connect before their turn', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const held: (() => void)[] = [];
      const accept = pair.server.accept.bind(pair.server);
      pair.server.accept = (socket, listener) => held.push(() => accept(socket, listener));
      const opening = Promise.all(Array.from({ length: 40 }, async (_unused, at) => pair.stream(fromFront(at))));
      await eventually('sixteen connections', () => held.length === 16);
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual([held.length, pair.dialled.length], [16, 16]);
      pair.server.accept = accept;
      for (const release of held) release();
      assert.equal((await opening).length, 40);
    });

    it('are sixteen at a time also where this thread did something else while they connected', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { dialRaw } = pair;
      const stall = new Int32Array(new SharedArrayBuffer(4));
      pair.dialRaw = (target) => {
        const socket = dialRaw(target);
        // Longer than an address may take that does not answer.
        if (pair.dialled.length === 16) Atomics.wait(stall, 0, 0, 400);
        return socket;
      };
      const held: (() => void)[] = [];
      const accept = pair.server.accept.bind(pair.server);
      pair.server.accept = (socket, listener) => held.push(() => accept(socket, listener));
      const opening = Promise.all(Array.from({ length: 40 }, async (_unused, at) => pair.stream(fromFront(at))));
      await eventually('sixteen connections', () => held.length >= 16);
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual([held.length, pair.dialled.length], [16, 16]);
      pair.server.accept = accept;
      for (const release of held) release();
      assert.equal((await opening).length, 40);
    });

    it('take no turn for a connection that takes long, and one at once when it is there', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { dialRaw } = pair;
      const late: net.Socket[] = [];
      pair.dialRaw = (target) => {
        if (!target.sourceWorkload.startsWith('shop/late-')) return dialRaw(target);
        // It connects when the name is resolved, which is when the test says.
        const socket = net.connect({ host: 'late.example', port: pair.port, allowHalfOpen: true, lookup: later });
        late.push(socket);
        return socket;
      };
      const answers: (() => void)[] = [];
      const later: net.LookupFunction = (_name, _options, callback) =>
        answers.push(() => callback(null, [{ address: serverIp, family: 4 }]));
      const opening = Promise.all(
        Array.from({ length: 16 }, async (_unused, at) =>
          pair.stream({ sourceWorkload: workloadNamed(`shop/late-${at}`) }),
        ),
      );
      await eventually('sixteen are begun', () => late.length === 16);
      await pair.stream(fromFront(1));
      for (const answer of answers) answer();
      assert.equal((await opening).length, 16);
    });

    it('that hold every turn for too long let the next request fail, and say why', async () => {
      await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 300 });
      pair.server.accept = () => undefined;
      const results = await Promise.all(Array.from({ length: 17 }, async (_unused, at) => pair.open(fromFront(at))));
      for (const result of results) assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
      const details = results.map((result) => (result.ok ? '' : result.detail));
      const hadNoTurn = details.map((detail) => detail.includes('no turn for a TLS handshake within 300 ms'));
      assert.equal(hadNoTurn.filter(Boolean).length, 1);
      // Only those that had a turn say something of the endpoint.
      assert.deepEqual(
        results.map((result) => !result.ok && result.isOwn === true),
        hadNoTurn,
      );
    });

    it('are not begun for one that was ended while it waited', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const held: (() => void)[] = [];
      const accept = pair.server.accept.bind(pair.server);
      pair.server.accept = (socket, listener) => held.push(() => accept(socket, listener));
      const opening = Array.from({ length: 16 }, async (_unused, at) => pair.stream(fromFront(at)));
      await eventually('sixteen connections', () => held.length === 16);
      const waiting = pair.open(fromFront(16));
      await new Promise((resolve) => setImmediate(resolve));
      pair.client.releaseWorkload(workloadNamed('shop/front-16'));
      const ended = await waiting;
      assert.ok(!ended.ok);
      for (const release of held) release();
      await Promise.all(opening);
      assert.equal(pair.dialled.length, 16);
    });
  });
}

function fromFront(at: number): { readonly sourceWorkload: WorkloadName } {
  return { sourceWorkload: workloadNamed(`shop/front-${at}`) };
}

/** A stream that is opened, used and closed. */
async function exchange(pair: TunnelPair): Promise<void> {
  const stream = await pair.stream();
  stream.end('ping');
  assert.equal((await readAll(stream)).toString(), 'ping');
}

/** While the handshake of a second tunnel is held, requests use the first; when it is `release`d, the second. */
async function expectNobodyWaits(pair: TunnelPair, release: () => void): Promise<void> {
  await eventually('a second tunnel is dialled', () => pair.dialled.length === 2);
  for (let count = 0; count < 20; count++) await exchange(pair);
  assert.deepEqual([pair.client.counts().tunnels, pair.dialled.length], [1, 2]);
  release();
  await eventually('it took the place of the first', () => pair.dialled[0]?.closed === true);
  await exchange(pair);
  assert.deepEqual([pair.client.counts().tunnels, pair.dialled.length], [1, 2]);
}

/** The server's next certificate comes when this one is over already, so that its tunnels are retired at once. */
async function endAtOnce(ca: TestCa, pair: TunnelPair): Promise<void> {
  pair.server.replaceCertificates(await issueOver(ca));
}

/** A certificate of the server that its agent takes for one that is over. */
async function issueOver(ca: TestCa): Promise<TunnelCertificates> {
  return ca.issue(serverIdentity, { claimedNotAfterMs: Date.now() });
}

/** No handshake that begins from now on goes on before the returned function is called. */
function holdHandshakes(pair: TunnelPair): () => void {
  const accept = pair.server.accept.bind(pair.server);
  const held: (() => void)[] = [];
  pair.server.accept = (socket, listener) => held.push(() => accept(socket, listener));
  return () => {
    pair.server.accept = accept;
    for (const go of held) go();
  };
}

/** The numbers of streams of the tunnels, oldest first. */
function isSpread(pair: TunnelPair, streams: readonly number[]): boolean {
  const tunnels = pair.client.dump();
  return tunnels.length === streams.length && tunnels.every((tunnel, at) => tunnel.streams === streams[at]);
}
