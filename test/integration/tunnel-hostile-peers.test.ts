import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import type { RefusedHandshake, TunnelRequest, TunnelStream } from '../../agent/dataplane/tunnel/tunnel.js';
import { clientIdentity, serverIdentity, strangerIdentity, TestCa } from '../contract/tunnel-certificates.js';
import { http2Engine as engine } from '../contract/tunnel-http2-engine.js';
import { eventually, readAll, serverIp, testSettings, TunnelPair } from '../contract/tunnel-pair.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  endStream,
  frameType,
  RawPeer,
  sendPlain,
} from '../contract/tunnel-raw-peer.js';

const megabyte = 1_048_576;
const hourMs = 3_600_000;
const clientHello = Buffer.from('1603010200010001fc0303', 'hex');

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

async function expectRefused(pair: TunnelPair, kind: RefusedHandshake): Promise<void> {
  await eventually(`a refusal is counted as ${kind}`, () => pair.server.refusedHandshakes()[kind] > 0).catch(() => {});
  const counted = Object.entries(pair.server.refusedHandshakes()).filter(([, count]) => count > 0);
  assert.deepEqual(
    counted.map(([name]) => name),
    [kind],
  );
}

/** The server still serves honest peers, and holds nothing of the hostile one. */
async function expectHealthy(pair: TunnelPair): Promise<void> {
  await eventually('the hostile tunnel is gone', () => pair.server.counts().tunnels === 0);
  const stream = await pair.stream();
  stream.end('still there');
  assert.equal((await readAll(stream)).toString(), 'still there');
}

function connectTo(port: number, stream: number, flags = endHeaders): Buffer {
  const headers = encodeHeaders({ ':method': 'CONNECT', ':authority': `127.0.0.9:${port}` });
  return encodeFrame(frameType.headers, flags, stream, headers);
}

describe('the tunnel port refuses and counts', () => {
  const plain: [string, string | Buffer][] = [
    ['plain text', 'hello, is this the database?\r\n'.repeat(40)],
    ['HTTP/1.1', 'GET / HTTP/1.1\r\nHost: back\r\n\r\n'],
    ['HTTP/2 without TLS', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['garbage', randomBytes(65_536).fill(0xff, 0, 8)],
  ];
  for (const [what, bytes] of plain) {
    it(`${what}, at once`, async () => {
      await using pair = await TunnelPair.start(engine, ca);
      assert.ok((await sendPlain(pair.port, bytes)) < 2000);
      await expectRefused(pair, 'not_tls');
      await expectHealthy(pair);
    });
  }

  it('a handshake that never goes on, when its time is up', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 300 });
    const tookMs = await sendPlain(pair.port, clientHello);
    assert.ok(tookMs >= 250 && tookMs < 3000, `${tookMs} ms`);
    await expectRefused(pair, 'handshake_timeout');
    await expectHealthy(pair);
  });

  it('silence, within ten seconds even when no limit is configured', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 0 });
    assert.ok((await sendPlain(pair.port, '')) < 10_000);
    await expectRefused(pair, 'handshake_timeout');
  });

  it('more handshakes at once than one address may have, and goes on with others', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 9500 });
    const idle = Array.from({ length: 256 }, () => net.connect({ host: serverIp, port: pair.port }));
    for (const socket of idle) socket.on('error', () => {});
    await eventually('all are accepted', () => pair.accepted.length === idle.length);
    assert.ok((await sendPlain(pair.port, '')) < 5000, 'one more is turned away at once');
    await expectRefused(pair, 'overload');
    const elsewhere = net.connect({ host: serverIp, port: pair.port, localAddress: '127.0.0.2' });
    const other = await RawPeer.connect(pair.port, await ca.issue(clientIdentity), { socket: elsewhere });
    for (const socket of [...idle, other.socket]) socket.destroy();
    await eventually('the places are free again', () => pair.accepted.every((socket) => socket.destroyed));
    await expectHealthy(pair);
  });

  it('a peer without a certificate', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const peer = await RawPeer.connect(pair.port, null);
    await peer.closed();
    await expectRefused(pair, 'no_certificate');
    await expectHealthy(pair);
  });

  it('a peer of another CA', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const foreign = await TestCa.create();
    const peer = await RawPeer.connect(pair.port, await foreign.issue(clientIdentity));
    await peer.closed();
    await expectRefused(pair, 'untrusted_certificate');
  });

  it('a peer of another trust domain, though our CA signed it', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const peer = await RawPeer.connect(pair.port, await ca.issue(strangerIdentity));
    await peer.closed();
    await expectRefused(pair, 'wrong_identity');
  });

  it('TLS 1.2, and TLS 1.3 without h2', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const own = await ca.issue(clientIdentity);
    await assert.rejects(RawPeer.connect(pair.port, own, { maxVersion: 'TLSv1.2' }));
    await assert.rejects(RawPeer.connect(pair.port, own, { ALPNProtocols: ['http/1.1'] }));
    const silent = await RawPeer.connect(pair.port, own, { ALPNProtocols: [] });
    await silent.closed();
    await expectRefused(pair, 'tls_failed');
    assert.equal(pair.server.refusedHandshakes().tls_failed, 3);
  });

  it('a proved peer that asks for nothing, within ten seconds', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const peer = await RawPeer.connect(pair.port, await ca.issue(clientIdentity));
    await peer.closed(10_500);
    await expectRefused(pair, 'no_request');
  });

  it('everybody while it has no certificate of its own', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    pair.server.replaceCertificates({ rootsPem: ca.root.rootPem, certificates: [] });
    const result = await pair.open();
    assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
    await expectRefused(pair, 'no_own_certificate');
  });
});

describe('the client gives up', () => {
  it('a stream that was refused and is left open by the server', { timeout: 30_000 }, async () => {
    const own = await ca.issue(serverIdentity);
    const [certificate] = own.certificates;
    const server = http2.createSecureServer({ cert: certificate?.chainPem ?? '', key: certificate?.keyPem ?? '' });
    const refused = new Promise<http2.ServerHttp2Stream>((resolve) => {
      server.on('stream', (stream) => {
        stream.on('error', () => {});
        stream.respond({ ':status': 401 });
        resolve(stream);
      });
    });
    server.listen(0, serverIp);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = engine.client({ settings: testSettings, dialRaw: () => net.connect({ host: serverIp, port }) });
    client.replaceCertificates(await ca.issue(clientIdentity));
    await using pair = await TunnelPair.start(engine, ca);
    const result = await client.open(pair.target(), { signal: AbortSignal.timeout(10_000) });
    assert.equal(!result.ok && result.reason, 'POLICY_DENY');
    assert.equal(client.counts().streams, 1, 'the server has not ended its side');
    await once(await refused, 'close');
    await eventually('the stream is gone', () => client.counts().streams === 0);
    await client.drain(0);
    server.close();
  });
});

describe('both agents name the same certificate problem', () => {
  const claim = { claimedNotAfterMs: Date.now() + hourMs };
  const expired = { startsInMs: -2 * hourMs, ttlMs: hourMs, ...claim };
  const future = { startsInMs: hourMs, ttlMs: hourMs, ...claim };

  it("when the client's has expired", async () => {
    await using pair = await TunnelPair.start(engine, ca);
    pair.client.replaceCertificates(await ca.issue(clientIdentity, expired));
    const result = await pair.open();
    assert.equal(!result.ok && result.reason, 'CERT_EXPIRED');
    await expectRefused(pair, 'expired_certificate');
  });

  it("when the client's is not valid yet", async () => {
    await using pair = await TunnelPair.start(engine, ca);
    pair.client.replaceCertificates(await ca.issue(clientIdentity, future));
    const result = await pair.open();
    assert.equal(!result.ok && result.reason, 'CERT_NOT_YET_VALID');
    await expectRefused(pair, 'not_yet_valid_certificate');
  });

  it("when the client's is of another CA", async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const foreign = await (await TestCa.create()).issue(clientIdentity);
    pair.client.replaceCertificates({ ...foreign, rootsPem: ca.root.rootPem });
    const result = await pair.open();
    assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
    await expectRefused(pair, 'untrusted_certificate');
  });

  for (const [what, validity, reason] of [
    ['has expired', expired, 'CERT_EXPIRED'],
    ['is not valid yet', future, 'CERT_NOT_YET_VALID'],
  ] as const) {
    it(`when the server's ${what}`, async () => {
      await using pair = await TunnelPair.start(engine, ca);
      pair.server.replaceCertificates(await ca.issue(serverIdentity, validity));
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, reason);
      assert.equal(!result.ok && result.isRetryable, true);
    });
  }

  it("when the server's is of another CA", async () => {
    await using pair = await TunnelPair.start(engine, ca);
    pair.server.replaceCertificates(await (await TestCa.create()).issue(serverIdentity));
    const result = await pair.open();
    assert.equal(!result.ok && result.reason, 'TLS_HANDSHAKE');
  });
});

describe('a proved peer that breaks HTTP/2 is cut off', () => {
  async function attack(send: (peer: RawPeer) => Promise<void> | void): Promise<void> {
    await using pair = await TunnelPair.start(engine, ca);
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    peer.send(connectTo(80, 1));
    await eventually('the first stream is open', () => pair.server.counts().streams === 1);
    const before = process.memoryUsage.rss();
    await send(peer);
    await peer.closed();
    assert.ok(process.memoryUsage.rss() - before < 64 * megabyte);
    await expectRefused(pair, 'protocol_error');
    await expectHealthy(pair);
  }

  it('an endless header block', async () => {
    await attack(async (peer) => {
      peer.send(connectTo(80, 3, 0));
      const more = encodeFrame(frameType.continuation, 0, 3, encodeHeaders({ x: 'y'.repeat(100) }));
      for (let sent = 0; sent < 2000 && !peer.socket.destroyed; sent++) peer.send(more);
    });
  });

  it('a header block beyond the limit', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    const pairs = Array.from({ length: 200 }, (_unused, index) => [`x-${index}`, 'y'.repeat(100)]);
    const block = encodeHeaders(Object.fromEntries([[':method', 'CONNECT'], [':authority', '127.0.0.9:80'], ...pairs]));
    let requests = 0;
    pair.onConnect = () => (requests += 1);
    peer.send(
      encodeFrame(frameType.headers, 0, 1, block.subarray(0, 16_000)),
      encodeFrame(frameType.continuation, endHeaders, 1, block.subarray(16_000)),
    );
    await eventually('the stream is refused', () => peer.frames.some((frame) => frame.type === frameType.rst));
    assert.equal(requests, 0);
  });

  it('frames of no sense, at the latest when it answers no PING', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tunnelPingIntervalMs: 100, tunnelPingTimeoutMs: 200 });
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    peer.send(connectTo(80, 1));
    await eventually('the first stream is open', () => pair.server.counts().streams === 1);
    const nonsense = setInterval(() => peer.send(randomBytes(4096).fill(0xff, 0, 16)), 20);
    await peer.closed().finally(() => clearInterval(nonsense));
    await expectHealthy(pair);
  });

  it('a flood of SETTINGS that it does not read the answers of', async () => {
    await attack(async (peer) => {
      peer.socket.pause();
      const flood = Buffer.concat(Array.from({ length: 1000 }, () => encodeFrame(frameType.settings, 0, 0)));
      for (let round = 0; round < 2000 && !peer.socket.destroyed; round++) {
        if (!peer.socket.write(flood)) await drained(peer);
      }
      peer.socket.resume();
    });
  });

  it('a flood of PINGs that it does not read the answers of', async () => {
    await attack(async (peer) => {
      peer.socket.pause();
      const flood = Buffer.concat(
        Array.from({ length: 1000 }, () => encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8))),
      );
      for (let round = 0; round < 2000 && !peer.socket.destroyed; round++) {
        if (!peer.socket.write(flood)) await drained(peer);
      }
      peer.socket.resume();
    });
  });

  it('rapid resets', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    const cancel = Buffer.from([0, 0, 0, 8]);
    for (let stream = 1; stream < 20_000 && !peer.socket.destroyed; stream += 2) {
      peer.send(connectTo(80, stream), encodeFrame(frameType.rst, 0, stream, cancel));
    }
    await eventually('a GOAWAY came', () => peer.frames.some((frame) => frame.type === frameType.goaway));
    await eventually('its streams are gone', () => pair.server.counts().streams === 0);
  });

  it('more streams than it may have', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const requests: TunnelRequest[] = [];
    pair.onConnect = (request) => requests.push(request);
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    for (let stream = 1; stream < 260; stream += 2) peer.send(connectTo(80, stream));
    await eventually('thirty are refused', () => {
      return peer.frames.filter((frame) => frame.type === frameType.rst).length === 30;
    });
    assert.equal(requests.length, 100);
  });
});

/** Until the socket takes more, or is gone, or stands still because the other side reads nothing. */
async function drained(peer: RawPeer): Promise<void> {
  const { socket } = peer;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    const timer = setTimeout(done, 200);
    socket.once('drain', done);
    socket.once('close', done);
  });
}

describe('what a peer sees on the wire', () => {
  for (const isIdle of [true, false]) {
    const when = isIdle ? 'when all was sent' : 'with bytes on their way';
    it(`of a reset ${when} is RST_STREAM CONNECT_ERROR and no END_STREAM before it`, async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const accepted = new Promise<TunnelStream>((resolve) => {
        pair.onConnect = (request) => resolve(request.accept());
      });
      await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
      peer.send(connectTo(80, 1));
      const stream = await accepted;
      stream.write('half a me');
      if (isIdle) await eventually('DATA', () => peer.frames.some((frame) => frame.type === frameType.data));
      stream.reset();
      await eventually('RST_STREAM', () => peer.frames.some((frame) => frame.type === frameType.rst));
      const ours = peer.frames.filter((frame) => frame.stream === 1);
      assert.deepEqual(
        ours.map((frame) => frame.type),
        [frameType.headers, frameType.data, frameType.rst],
      );
      assert.ok(ours.every((frame) => frame.type === frameType.rst || (frame.flags & endStream) === 0));
      assert.equal(ours.at(-1)?.payload.readUInt32BE(), 10);
    });
  }

  it('of the settings are the windows and limits of DESIGN', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    const isSettings = (type: number, flags: number): boolean => type === frameType.settings && flags === 0;
    await eventually('SETTINGS and WINDOW_UPDATE', () => {
      return (
        peer.frames.some((f) => isSettings(f.type, f.flags)) && peer.frames.some((f) => f.type === frameType.window)
      );
    });
    const { payload } = peer.frames.find((f) => isSettings(f.type, f.flags))!;
    const values = new Map<number, number>();
    for (let at = 0; at < payload.length; at += 6) values.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    assert.equal(values.get(3), 100, 'MAX_CONCURRENT_STREAMS');
    assert.equal(values.get(4), 4 * megabyte, 'INITIAL_WINDOW_SIZE');
    assert.equal(values.get(5), megabyte, 'MAX_FRAME_SIZE');
    const grown = peer.frames.find((f) => f.type === frameType.window)!.payload.readUInt32BE();
    assert.equal(grown, 16 * megabyte - 65_535);
  });
});
