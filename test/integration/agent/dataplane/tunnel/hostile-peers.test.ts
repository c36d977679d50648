import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import {
  clientIdentity,
  serverIdentity,
  strangerIdentity,
  TestCa,
} from '../../../../support/tunnel/tunnel-certificates.js';
import { expectHealthy, expectRefused } from '../../../../contract/tunnel-hostile-contract.js';
import { http2Engine as engine } from '../../../../support/tunnel/tunnel-http2-engine.js';
import { eventually, listener, serverIp, testSettings, TunnelPair } from '../../../../support/tunnel/tunnel-pair.js';
import { RawPeer, sendPlain } from '../../../../support/tunnel/tunnel-raw-peer.js';
import { patientMs } from '../../../../lab/patience.js';
import { idleMsOf, machineFactor } from '../../../../support/machine-factor.js';

const hourMs = 3_600_000;
const clientHello = Buffer.from('1603010200010001fc0303', 'hex');

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

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
      assert.ok((await idleMsOf(() => sendPlain(pair.port, bytes))) < 2000);
      await expectRefused(pair, 'not_tls');
      await expectHealthy(pair);
    });
  }

  it('a handshake that never goes on, when its time is up', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 300 });
    const tookMs = await sendPlain(pair.port, clientHello);
    assert.ok(tookMs >= 250 && tookMs < 3000 * (await machineFactor()), `${tookMs} ms`);
    await expectRefused(pair, 'handshake_timeout');
    await expectHealthy(pair);
  });

  it('silence, also after a late first byte, within ten seconds even when no limit is configured', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 0 });
    const late = net.connect({ host: serverIp, port: pair.port }).on('error', () => {});
    const silent = sendPlain(pair.port, '');
    setTimeout(() => late.write(clientHello), 1000);
    assert.ok((await silent) < 10_000 * (await machineFactor()));
    await expectRefused(pair, 'handshake_timeout', 2);
  });

  it('each connection once, when the agent ends many at the same time', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 400 });
    const half = Array.from({ length: 16 }, () => sendPlain(pair.port, clientHello));
    await Promise.all([...Array.from({ length: 150 }, () => sendPlain(pair.port, '')), ...half]);
    await expectRefused(pair, 'handshake_timeout', 166);
  });

  it('the longest silent of one address that has too many, and serves that address and others', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 9500 });
    const idle = Array.from({ length: 256 }, () => net.connect({ host: serverIp, port: pair.port }));
    for (const socket of idle) socket.on('error', () => {});
    await eventually('all are accepted', () => pair.accepted.length === idle.length);
    const [longest] = pair.accepted;
    const own = await ca.issue(clientIdentity);
    const same = await RawPeer.connect(pair.port, own);
    await expectRefused(pair, 'overload');
    await eventually('it ends in its turn', () => longest?.destroyed === true);
    const elsewhere = net.connect({ host: serverIp, port: pair.port, localAddress: '127.0.0.2' });
    const other = await RawPeer.connect(pair.port, own, { socket: elsewhere });
    for (const socket of [...idle, same.socket, other.socket]) socket.destroy();
    await eventually('the places are free again', () => pair.accepted.every((socket) => socket.destroyed));
    await expectHealthy(pair);
  });

  it('at a pace what finds no place and is opened again at once, and one that spoke is not taken for it', async () => {
    await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 9500 });
    const identity = await ca.issue(clientIdentity);
    await using flood = floodOf(pair.port, 700);
    await eventually('all were opened', () => flood.opened >= 700);
    // As many as are over at once in a flood that is not held.
    await eventually('it goes on', () => flood.ended >= 20);
    const [startedAtMs, before] = [performance.now(), flood.ended];
    for (let round = 0; round < 10; round++) {
      // From the address of the flood.
      await using own = await RawPeer.connect(pair.port, identity);
      assert.ok(own.socket.encrypted);
    }
    const perSecond = (flood.ended - before) / ((performance.now() - startedAtMs) / 1000);
    assert.ok(perSecond < 300, `${perSecond} a second`);
    assert.ok(pair.server.heldHandshakes() > 300, `${pair.server.heldHandshakes()} are held`);
    assert.equal((await pair.open()).ok, true);
  });

  for (const [when, end] of [
    ['the workload leaves', (pair: TunnelPair) => pair.server.releaseWorkload(listener.workload)],
    ['the agent drains', (pair: TunnelPair) => void pair.server.drain(60_000)],
  ] as const) {
    it(`and all that is held at once when ${when}`, async () => {
      await using pair = await TunnelPair.start(engine, ca, { tlsHandshakeTimeoutMs: 9500 });
      const idle = Array.from({ length: 600 }, () => net.connect({ host: serverIp, port: pair.port }));
      for (const socket of idle) socket.on('error', () => {}).resume();
      await eventually('all are accepted', () => pair.accepted.length === idle.length);
      assert.ok(pair.server.heldHandshakes() > 200);
      end(pair);
      assert.equal(pair.server.heldHandshakes(), 0);
      assert.ok(pair.accepted.every((socket) => socket.destroyed));
    });
  }

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
    const company = await TestCa.ofCompany();
    await using pair = await TunnelPair.start(engine, company);
    const peer = await RawPeer.connect(pair.port, await company.issue(strangerIdentity));
    await peer.closed();
    await expectRefused(pair, 'wrong_identity');
  });

  it('a peer of another trust domain, which a CA that we made may not sign', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const peer = await RawPeer.connect(pair.port, await ca.issue(strangerIdentity));
    await peer.closed();
    await expectRefused(pair, 'untrusted_certificate');
  });

  it('TLS 1.2, and TLS 1.3 without h2', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    const own = await ca.issue(clientIdentity);
    await assert.rejects(RawPeer.connect(pair.port, own, { maxVersion: 'TLSv1.2' }));
    await assert.rejects(RawPeer.connect(pair.port, own, { ALPNProtocols: ['http/1.1'] }));
    const silent = await RawPeer.connect(pair.port, own, { ALPNProtocols: [] });
    await silent.closed();
    await expectRefused(pair, 'tls_failed', 3);
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

/** Connections that say nothing, each opened again as soon as it is ended. */
function floodOf(port: number, count: number) {
  const sockets = new Set<net.Socket>();
  const flood = {
    opened: 0,
    ended: 0,
    isOver: false,
    [Symbol.asyncDispose]: async (): Promise<void> => {
      flood.isOver = true;
      const closed = [...sockets].map((socket) => once(socket.destroy(), 'close'));
      await Promise.all(closed);
    },
  };
  const open = (): void => {
    const socket = net.connect({ host: serverIp, port });
    sockets.add(socket);
    socket.on('error', () => {}).resume();
    socket.once('connect', () => flood.opened++);
    socket.once('close', () => {
      sockets.delete(socket);
      if (flood.isOver) return;
      flood.ended++;
      open();
    });
  };
  for (let index = 0; index < count; index++) open();
  return flood;
}

describe('the client gives up', () => {
  it('a stream that was refused and is left open by the server', { timeout: patientMs(30_000) }, async () => {
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
    const result = await client.open(pair.authorized(), pair.target());
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
