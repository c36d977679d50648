import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { constants, type Http2Stream } from 'node:http2';
import { StreamPeer } from '../../agent/dataplane/relay/stream-peer.js';
import type { TunnelStream } from '../../agent/dataplane/engine/tunnel-stream.js';
import { TestCa } from '../support/tunnel/tunnel-certificates.js';
import { http2Engine } from '../support/tunnel/tunnel-http2-engine.js';
import { closed, eventually, readAll, TunnelPair } from '../support/tunnel/tunnel-pair.js';
import { workloadNamed } from '../support/routing/names.js';

const megabyte = 1_048_576;
let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

describe('a stream of node:http2 whose both ends were framed, but not written yet', () => {
  it('is gone at once when it is reset, and its siblings go on', async () => {
    await using pair = await TunnelPair.start(http2Engine, ca, {
      streamWindowBytes: 32 * megabyte,
      tunnelWindowBytes: 64 * megabyte,
    });
    const sibling = await pair.stream();
    const { near, far } = await pair.streamPair();
    far.end();
    await readAll(near);
    near.end(Buffer.alloc(16 * megabyte));
    await framed(near);
    assert.equal(near.destroyed, false);
    near.reset();
    await closed(near);
    assert.equal(near.writableFinished, false);
    assert.deepEqual(new StreamPeer(near).breakage, { detail: 'closed before its end', isReset: false });
    assert.equal((await readAll(far)).length, 16 * megabyte);
    sibling.end('still here');
    assert.equal((await readAll(sibling)).toString(), 'still here');
  });

  it('breaks with its tunnel', async () => {
    await using pair = await TunnelPair.start(http2Engine, ca, {
      streamWindowBytes: 32 * megabyte,
      tunnelWindowBytes: 32 * megabyte,
    });
    const { near, far } = await pair.streamPair();
    far.end();
    await readAll(near);
    near.end(Buffer.alloc(16 * megabyte));
    await framed(near);
    pair.client.releaseWorkload(workloadNamed('shop/front'));
    await closed(near);
    assert.deepEqual(new StreamPeer(near).breakage, { detail: 'closed before its end', isReset: false });
  });
});

describe('a stream of node:http2 that the peer wants no more of', () => {
  it('breaks when RST_STREAM NO_ERROR leaves bytes unsent', async () => {
    await using pair = await TunnelPair.start(http2Engine, ca, { streamWindowBytes: megabyte });
    const { near, far } = await pair.streamPair();
    far.end();
    await readAll(near);
    near.end(Buffer.alloc(16 * megabyte));
    await eventually('the window is full', () => far.readableLength > 0);
    (far as unknown as Http2Stream).close(constants.NGHTTP2_NO_ERROR);
    far.resume();
    await closed(near);
    assert.deepEqual(new StreamPeer(near).breakage, { detail: 'closed before its end', isReset: false });
    assert.equal(pair.client.counts().streams, 0);
  });
});

/** Both ends are with nghttp2; `closed` has this meaning only in `Http2Stream`. */
async function framed(stream: TunnelStream): Promise<void> {
  while (!stream.closed) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
