import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { TunnelRequest } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import { TunnelPool } from '../../../../../agent/dataplane/tunnel/tunnel-pool.js';
import { TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { leanEngine as engine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import { TunnelPair } from '../../../../support/tunnel/tunnel-pair.js';

/** A workload that opens connections as fast as it can: thousands wait for room in the tunnels, and few find it at a time. */
const requests = 1000;

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

test('requests that wait for room cost the thread no look each time that a few others find it', async ({ mock }) => {
  const looks = mock.method(TunnelPool.prototype, 'pick').mock;
  await using pair = await TunnelPair.start(engine, ca, { maxStreamsPerTunnel: 10 });
  pair.onConnect = (request: TunnelRequest) => void request.accept().on('error', () => {});
  const streams = await Promise.all(Array.from({ length: requests }, () => pair.stream()));
  assert.equal(streams.length, requests);
  assert.ok(looks.callCount() < 5 * requests, `${looks.callCount()} looks`);
  for (const stream of streams) stream.reset();
});
