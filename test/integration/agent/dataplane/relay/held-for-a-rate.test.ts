import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { BackpressureTracker } from '../../../../../agent/dataplane/relay/backpressure-tracker.js';
import type { PeerOwner, RelayPeer } from '../../../../../agent/dataplane/relay/relay-peer.js';
import { dialledPair } from '../../../../support/agent/application-pair.js';
import { relayed } from '../../../../support/agent/relay-road.js';
import { withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

/** A side whose sender has a window of several megabytes, all of which comes in one turn. */
class WideSender implements RelayPeer {
  readonly socket = null;
  readonly bounds = { usualBytes: 131_072, unprovenBytes: 65_536, beginsUnproven: false };
  readonly breakage = null;
  readonly unreadBytes = 0;
  readonly waitingBytes = 0;
  readonly hasTakenAll = true;
  isGone = false;
  isPaused = true;
  owner: PeerOwner | null = null;

  open(owner: PeerOwner): void {
    this.owner = owner;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  send(): number {
    return 0;
  }
  flush(): void {}
  end(): void {
    this.reset();
  }
  reset(): void {
    if (this.isGone) return;
    this.isGone = true;
    queueMicrotask(() => this.owner?.onGone());
  }
}

test('a whole window that waited for a rate goes on in one piece, to an application that reads late', async () => {
  const [application, destination] = await dialledPair();
  const source = new WideSender();
  const waits = [0, 50, 50, 50];
  const throttle = { spend: () => waits.shift() ?? 0, giveBack: () => assert.fail('bytes that did not go on') };
  const counters = { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null };
  const outcome = relayed({
    source,
    destination,
    counters,
    halfCloseTimeoutMs: 0,
    idleTimeoutMs: 0,
    maxDurationMs: 0,
    signal: new TerminationSignal(),
    workloads: [],
    backpressure: new BackpressureTracker(),
    throttles: { source: throttle, destination: throttle },
    shadow: null,
  });
  const sent = randomBytes(16_000_000);
  const [first, rest] = [sent.subarray(0, 4_000_000), sent.subarray(4_000_000)];
  source.owner?.onBytes(first);
  for (let at = 0; at < rest.length; at += 4_000_000) source.owner?.onBytes(rest.subarray(at, at + 4_000_000));
  source.owner?.onEnd();
  await new Promise((resolve) => setTimeout(resolve, 150));
  const sha = createHash('sha256');
  application.on('data', (bytes: Buffer) => sha.update(bytes));
  application.on('end', () => application.end());
  await withDeadline('all of it', outcome);
  assert.equal(sha.digest('hex'), createHash('sha256').update(sent).digest('hex'));
  assert.equal((await outcome).reason, 'OK');
});
