import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import type { TunnelStream } from '../../../../../agent/dataplane/engine/tunnel-stream.js';
import { clientIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { leanEngine as engine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import { eventually, TunnelPair } from '../../../../support/tunnel/tunnel-pair.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  frameType,
  RawPeer,
} from '../../../../support/tunnel/tunnel-raw-peer.js';

/** Within the first window of a stream. */
const frames = 30_000;

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

/** A peer with an open stream, what came there, and how many bytes each turn of the event loop brought at most. */
async function openStream({ onFirst = () => {} }: { readonly onFirst?: () => void } = {}): Promise<{
  readonly pair: TunnelPair;
  readonly peer: RawPeer;
  readonly received: () => Buffer;
  readonly receivedBytes: () => number;
  readonly largestTurn: () => number;
}> {
  const pair = await TunnelPair.start(engine, ca);
  const accepted = new Promise<TunnelStream>((resolve) => {
    pair.onConnect = (request) => resolve(request.accept());
  });
  const peer = await RawPeer.connectHttp2(pair.port, await ca.issue(clientIdentity));
  const headers = encodeHeaders({ ':method': 'CONNECT', ':authority': '127.0.0.9:80' });
  peer.send(encodeFrame(frameType.headers, endHeaders, 1, headers));
  const stream = await accepted;
  const chunks: Buffer[] = [];
  let bytes = 0;
  let inTurn = 0;
  let largest = 0;
  let isTurnSet = false;
  stream.on('error', () => {});
  stream.on('data', (chunk: Buffer) => {
    if (chunks.length === 0) onFirst();
    chunks.push(Buffer.from(chunk));
    bytes += chunk.length;
    inTurn += chunk.length;
    largest = Math.max(largest, inTurn);
    if (isTurnSet) return;
    isTurnSet = true;
    setImmediate(() => {
      isTurnSet = false;
      inTurn = 0;
    });
  });
  return { pair, peer, received: () => Buffer.concat(chunks), receivedBytes: () => bytes, largestTurn: () => largest };
}

/** DATA frames of one byte, in which the bytes count up. */
function tinyFrames(count: number): { readonly wire: Buffer; readonly content: Buffer } {
  const content = Buffer.from(Array.from({ length: count }, (_unused, index) => index % 251));
  const each = Array.from(content, (byte) => encodeFrame(frameType.data, 0, 1, Buffer.from([byte])));
  return { wire: Buffer.concat(each), content };
}

describe('frames of one byte that fill what one read brings', () => {
  it('leave the event loop its turns, and all come in order', async ({ mock }) => {
    // A turn has frames for a millisecond. A tenth of that passes with each look at the clock, however fast the machine is.
    const now = performance.now.bind(performance);
    let looks = 0;
    mock.method(performance, 'now', () => now() + looks++ / 10);
    const { pair, peer, received, receivedBytes, largestTurn } = await openStream();
    await using _ = pair;
    const { wire, content } = tinyFrames(frames);
    peer.socket.write(wire);
    await eventually('all have come', () => receivedBytes() === frames);
    assert.ok(received().equals(content));
    // One read of 64 KiB has 6,500 of them, and libuv reads up to 32 times in a turn.
    assert.ok(largestTurn() <= 3000, `${largestTurn()} in one turn`);
    peer.socket.destroy();
  });

  it('are handled also when the connection breaks while they wait', async () => {
    const { pair, peer, received } = await openStream({ onFirst: () => pair.accepted[0]?.destroy() });
    await using _ = pair;
    const { wire, content } = tinyFrames(3000);
    peer.socket.write(wire);
    await eventually('the tunnel is gone', () => pair.server.counts().tunnels === 0);
    // The first TLS record, of 16 KiB, had been read.
    assert.ok(received().length >= 1600, `${received().length} frames`);
    assert.ok(received().equals(content.subarray(0, received().length)));
    peer.socket.destroy();
  });
});
