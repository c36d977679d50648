import assert from 'node:assert/strict';
import net from 'node:net';
import { before, describe, it } from 'node:test';
import { patientMs } from '../../../../lab/patience.js';
import { clientIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { leanEngine as engine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import { eventually, serverIp, TunnelPair } from '../../../../support/tunnel/tunnel-pair.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  frameType,
  RawPeer,
} from '../../../../support/tunnel/tunnel-raw-peer.js';

/**
 * A compromised node: it opens as many streams in a tunnel as may be reset, resets them, ends the tunnel before its limit, and
 * dials again. None of its tunnels breaks a rule.
 */
const streamsOfTunnel = 990;
const tunnels = 9;
const slowdown = 20;
const cancel = Buffer.from([0, 0, 0, 8]);

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

function connectTo(stream: number): Buffer {
  return encodeFrame(
    frameType.headers,
    endHeaders,
    stream,
    encodeHeaders({ ':method': 'CONNECT', ':authority': '127.0.0.9:80' }),
  );
}

const reset = (stream: number): Buffer => encodeFrame(frameType.rst, 0, stream, cancel);

/** Resolves when the server has come to the end of what the peer sent: the PING is answered in its turn. */
async function handled(peer: RawPeer): Promise<void> {
  peer.send(encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8)));
  await eventually('what it sent was handled', () => peer.frames.some((frame) => frame.type === frameType.ping));
}

/**
 * Whether a new tunnel of the peer waits while `others` from another address are served, one after the other. `onServed`: they
 * have been.
 */
async function isHeldUp(pair: TunnelPair, others: number, onServed: () => void = () => {}): Promise<boolean> {
  const own = await ca.issue(clientIdentity);
  let isServed = false;
  const again = RawPeer.connectHttp2(pair.port, own).then((peer) => {
    isServed = true;
    return peer;
  });
  for (let count = 0; count < others; count++) {
    const elsewhere = net.connect({ host: serverIp, port: pair.port, localAddress: '127.0.0.2' });
    await using _other = await RawPeer.connect(pair.port, own, { socket: elsewhere });
  }
  const wasHeldUp = !isServed;
  onServed();
  // It is not kept out for good.
  await using _late = await again;
  return wasHeldUp;
}

async function openTunnels(pair: TunnelPair): Promise<RawPeer[]> {
  const own = await ca.issue(clientIdentity);
  return await Promise.all(Array.from({ length: tunnels }, () => RawPeer.connectHttp2(pair.port, own)));
}

const ids = Array.from({ length: streamsOfTunnel }, (_unused, index) => 2 * index + 1);

describe('a peer that resets what it opened, in ever new tunnels', { timeout: patientMs(120_000) }, () => {
  it('waits for its next handshake, while others do not', async ({ mock }) => {
    // What it owes shrinks with time. A slow machine must not take as long as that over the attack, so its clock is slower.
    const now = performance.now.bind(performance);
    const startMs = now();
    let lostMs: number | null = null;
    const slowMs = (): number => startMs + (now() - startMs) / slowdown;
    mock.method(performance, 'now', () => (lostMs === null ? slowMs() : now() - lostMs));
    await using pair = await TunnelPair.start(engine, ca);
    let requests = 0;
    pair.onConnect = () => (requests += 1);
    for (const peer of await openTunnels(pair)) {
      peer.send(...ids.flatMap((id) => [connectTo(id), reset(id)]));
      await handled(peer);
      await using _ = peer;
      assert.ok(!peer.socket.destroyed, 'it broke no rule');
    }
    assert.equal(requests, tunnels * streamsOfTunnel);
    assert.ok(await isHeldUp(pair, 5, () => (lostMs = now() - slowMs())));
  });

  it('leaves the event loop its turns', async ({ mock }) => {
    // A turn has frames for a millisecond. A tenth of that passes with each look at the clock, however fast the machine is.
    const now = performance.now.bind(performance);
    let looks = 0;
    mock.method(performance, 'now', () => now() + looks++ / 10);
    await using pair = await TunnelPair.start(engine, ca);
    let [inTurn, largest, requests, isTurnSet] = [0, 0, 0, false];
    pair.onConnect = () => {
      requests += 1;
      inTurn += 1;
      largest = Math.max(largest, inTurn);
      if (isTurnSet) return;
      isTurnSet = true;
      setImmediate(() => ([inTurn, isTurnSet] = [0, false]));
    };
    await using peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
    peer.send(...ids.flatMap((id) => [connectTo(id), reset(id)]));
    await handled(peer);
    assert.equal(requests, streamsOfTunnel);
    // As many requests as other frames would be half of what may come in a turn.
    assert.ok(largest <= 64, `${largest} in one turn`);
  });

  it('does not wait when its streams were answered: its applications end connections with RST', async () => {
    await using pair = await TunnelPair.start(engine, ca);
    pair.onConnect = (request) => void request.accept().on('error', () => {});
    for (const peer of await openTunnels(pair)) {
      for (let first = 0; first < streamsOfTunnel; first += 90) {
        const some = ids.slice(first, first + 90);
        peer.send(...some.map(connectTo));
        const answered = (): number => peer.frames.filter((frame) => frame.type === frameType.headers).length;
        await eventually('they are answered', () => answered() === first + 90);
        peer.send(...some.map(reset));
      }
      await handled(peer);
      await using _ = peer;
    }
    assert.ok(!(await isHeldUp(pair, 3)));
  });
});
