import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import tls from 'node:tls';
import type { RefusedHandshake } from '../../agent/dataplane/connection/failure-reasons.js';
import type { TunnelRequest } from '../../agent/dataplane/tunnel/tunnel.js';
import type { TunnelStream } from '../../agent/dataplane/engine/tunnel-stream.js';
import { clientIdentity, serverIdentity, TestCa } from '../support/tunnel/tunnel-certificates.js';
import { eventually, readAll, TunnelPair, type TunnelEngine } from '../support/tunnel/tunnel-pair.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  endStream,
  frameType,
  RawPeer,
} from '../support/tunnel/tunnel-raw-peer.js';

const megabyte = 1_048_576;

/** What a proved peer that breaks HTTP/2 gets from the server of every engine, and what any peer sees on the wire. */
export function runTunnelHostileContract(engine: TunnelEngine): void {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });

  describe(`a proved peer that wants too much (${engine.name})`, () => {
    it('passes its limit of streams, over all its tunnels, and has places again when some end', async () => {
      await using pair = await TunnelPair.start(engine, ca, { maxConnectionsPerPeer: 3 });
      const passed: (string | null)[] = [];
      pair.onConnect = (request) => {
        passed.push(request.limitPassed);
        request.accept();
      };
      const identity = await ca.issue(clientIdentity);
      const peers = [await RawPeer.connectHttp2(pair.port, identity), await RawPeer.connectHttp2(pair.port, identity)];
      for (const peer of peers) peer.send(connectTo(80, 1), connectTo(80, 3));
      await eventually('four requests', () => passed.length === 4);
      assert.deepEqual(
        passed.map((limit) => limit !== null),
        [false, false, false, true],
      );
      assert.match(passed[3] ?? '', /^limit 3 of a thread for spiffe:.* at 127\.0\.0\.1$/);
      peers[0]?.socket.destroy();
      await eventually('two are over', () => pair.server.counts().streams === 2);
      peers[1]?.send(connectTo(80, 5));
      await eventually('another request', () => passed.length === 5);
      assert.equal(passed[4], null);
      for (const peer of peers) await peer[Symbol.asyncDispose]();
    });
  });

  describe(`a proved peer that breaks HTTP/2 is cut off (${engine.name})`, () => {
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

    if (engine.boundsHeaderBlocks !== false) {
      it('an endless header block', async () => {
        await attack(async (peer) => {
          peer.send(connectTo(80, 3, 0));
          const more = encodeFrame(frameType.continuation, 0, 3, encodeHeaders({ x: 'y'.repeat(100) }));
          for (let sent = 0; sent < 2000 && !peer.socket.destroyed; sent++) peer.send(more);
        });
      });
    }

    it('a header block beyond the limit', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
      const pairs = Array.from({ length: 200 }, (_unused, index) => [`x-${index}`, 'y'.repeat(100)]);
      const block = encodeHeaders(
        Object.fromEntries([[':method', 'CONNECT'], [':authority', '127.0.0.9:80'], ...pairs]),
      );
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
      // What the server closes with bytes unread, the kernel resets, and that can take the GOAWAY from the peer.
      await eventually('it is cut', () => {
        return peer.socket.closed || peer.frames.some((frame) => frame.type === frameType.goaway);
      });
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

  describe(`a server that breaks the rules (${engine.name})`, () => {
    it('by allowing no streams at all gets a few tunnels and keeps none', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { certificates, rootsPem } = await ca.issue(serverIdentity);
      const { chainPem, keyPem } = certificates[0] ?? assert.fail();
      const none = tls.createServer(
        { cert: chainPem, key: keyPem, ca: rootsPem, requestCert: true, minVersion: 'TLSv1.3', ALPNProtocols: ['h2'] },
        (socket) => {
          socket.on('error', () => {});
          socket.write(encodeFrame(frameType.settings, 0, 0, Buffer.from([0, 3, 0, 0, 0, 0])));
          socket.resume();
        },
      );
      pair.server.accept = (socket) => {
        socket.on('error', () => {});
        socket.allowHalfOpen = false;
        none.emit('connection', socket);
      };
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'PEER_RESET');
      assert.match(result.ok ? '' : result.detail, /allows no streams/);
      assert.ok(pair.dialled.length < 10, `${pair.dialled.length} tunnels`);
      await eventually('none is left', () => pair.client.counts().tunnels === 0);
      none.close();
    });
  });

  describe(`what a peer sees on the wire (${engine.name})`, () => {
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
      assert.equal(values.get(4), engine.firstWindowBytes ?? 4 * megabyte, 'INITIAL_WINDOW_SIZE');
      assert.equal(values.get(5), megabyte, 'MAX_FRAME_SIZE');
      const grown = peer.frames.find((f) => f.type === frameType.window)!.payload.readUInt32BE();
      assert.equal(grown, 16 * megabyte - 65_535);
    });
  });
}

function connectTo(port: number, stream: number, flags = endHeaders): Buffer {
  const headers = encodeHeaders({ ':method': 'CONNECT', ':authority': `127.0.0.9:${port}` });
  return encodeFrame(frameType.headers, flags, stream, headers);
}

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

/** Nothing else is counted, and each of the peers once. */
export async function expectRefused(pair: TunnelPair, kind: RefusedHandshake, count = 1): Promise<void> {
  await eventually(`${count} are counted as ${kind}`, () => pair.server.refusedHandshakes()[kind] >= count).catch(
    () => {},
  );
  await eventually('what was refused is closed', () =>
    pair.accepted.every((socket) => !socket.destroyed || socket.closed),
  );
  const counted = Object.entries(pair.server.refusedHandshakes()).filter(([, refused]) => refused > 0);
  assert.deepEqual(Object.fromEntries(counted), { [kind]: count });
}

/** The server still serves honest peers, and holds nothing of the hostile one. */
export async function expectHealthy(pair: TunnelPair): Promise<void> {
  await eventually('the hostile tunnel is gone', () => pair.server.counts().tunnels === 0);
  const stream = await pair.stream();
  stream.end('still there');
  assert.equal((await readAll(stream)).toString(), 'still there');
}
