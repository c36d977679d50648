import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { BackpressureTracker } from '../../../../../agent/dataplane/relay/backpressure-tracker.js';
import { RelayDirection } from '../../../../../agent/dataplane/relay/relay-direction.js';
import { TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { relay } from '../../../../../agent/dataplane/relay/relay.js';
import type { RelayOutcome } from '../../../../../agent/dataplane/relay/relay-outcome.js';
import type { PeerOwner, RelayPeer } from '../../../../../agent/dataplane/relay/relay-peer.js';

/** A side that notes whether it is read, and takes what it is sent when the test says so. */
class TestPeer implements RelayPeer {
  readonly socket = null;
  readonly bounds = { usualBytes: 100, unprovenBytes: 100, beginsUnproven: false };
  owner: PeerOwner | null = null;
  readonly isGone = false;
  breakage: RelayPeer['breakage'] = null;
  readonly hasTakenAll = false;
  isPaused = false;
  unreadBytes = 0;
  waitingBytes = 0;
  /** All that it was sent. */
  sentBytes = 0;

  open(owner: PeerOwner): void {
    this.owner = owner;
  }
  flush(): void {}
  end(): void {}
  reset(): void {}
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  send(bytes: Buffer): number {
    this.sentBytes += bytes.length;
    return (this.waitingBytes += bytes.length);
  }
}

/** A direction whose throttle holds for the times that the test queues, and a clock of its own. */
function held(t: TestContext) {
  let nowMs = 1000;
  t.mock.timers.enable({ apis: ['setTimeout'] });
  t.mock.method(performance, 'now', () => nowMs);
  const [from, to, waits, backpressure] = [new TestPeer(), new TestPeer(), [] as number[], new BackpressureTracker()];
  const told = { hasEnded: false, givenBack: 0, heldAtBreak: -1 };
  const connection = {
    moved: () => {},
    ended: () => (told.hasEnded = true),
    broke: (_side: unknown, _breakage: unknown, heldBytes: number) => void (told.heldAtBreak = heldBytes),
    gone: () => {},
  };
  const common = { workloads: [{ slot: 1 }], backpressure, connection };
  const throttle = {
    spend: () => waits.shift() ?? 0,
    giveBack: (bytes: number) => void (told.givenBack += bytes),
  };
  const there = new RelayDirection({ side: 'source', from, to, throttle, copy: null, ...common });
  const back = new RelayDirection({ side: 'destination', from: to, to: from, throttle: null, copy: null, ...common });
  there.open(back);
  back.open(there);
  const pass = (ms: number): void => {
    nowMs += ms;
    t.mock.timers.tick(ms);
  };
  const bytes = (count: number, waitMs: number): void => {
    waits.push(waitMs);
    there.onBytes(Buffer.alloc(count));
  };
  const drained = (): void => {
    to.waitingBytes = 0;
    back.onDrained();
  };
  return { from, to, there, back, told, bytes, pass, drained, waiting: () => backpressure.waiting().bytesInAll };
}

describe('a sender whose bytes are ahead of a rate', () => {
  it('is not read until they are due, also those that came before it stopped', (t) => {
    const { from, bytes, pass } = held(t);
    bytes(10, 0);
    assert.equal(from.isPaused, false);
    bytes(10, 20);
    bytes(10, 50);
    assert.equal(from.isPaused, true);
    pass(30);
    assert.equal(from.isPaused, true);
    pass(25);
    assert.equal(from.isPaused, false);
  });

  it('has nothing sent on before it is due, and its end behind that', (t) => {
    const { to, there, told, bytes, pass } = held(t);
    bytes(10, 0);
    assert.equal(to.sentBytes, 10);
    bytes(20, 20);
    bytes(30, 30);
    there.onEnd();
    pass(25);
    assert.equal(to.sentBytes, 10);
    assert.equal(told.hasEnded, false);
    pass(10);
    assert.equal(to.sentBytes, 60);
    assert.equal(told.hasEnded, true);
    assert.equal(told.givenBack, 0);
  });

  it('may be gone after its end, before its last bytes are sent on', (t) => {
    const { to, there, told, bytes, pass } = held(t);
    bytes(20, 20);
    there.onEnd();
    there.onGone();
    assert.equal(to.sentBytes, 0);
    pass(20);
    assert.deepEqual([to.sentBytes, told.hasEnded, told.givenBack], [20, true, 0]);
  });

  it('is read when its bytes are due and the receiver has taken them', (t) => {
    const { from, bytes, pass, drained } = held(t);
    bytes(200, 20);
    pass(20);
    assert.equal(from.isPaused, true);
    drained();
    assert.equal(from.isPaused, false);
    bytes(200, 0);
    drained();
    assert.equal(from.isPaused, false);
    bytes(10, 20);
    drained();
    assert.equal(from.isPaused, true);
    pass(20);
    assert.equal(from.isPaused, false);
  });

  it('has what waits for it counted among the bytes that wait', (t) => {
    const { from, to, bytes, pass, waiting } = held(t);
    bytes(10, 20);
    from.unreadBytes = 5000;
    assert.equal(waiting(), 5010);
    assert.equal(to.sentBytes, 0);
    pass(20);
    assert.equal(to.sentBytes, 10);
    assert.equal(waiting(), 0);
  });

  it('gives back what it could not send on when it is gone, and keeps no timer', (t) => {
    const { from, to, there, told, bytes, pass } = held(t);
    bytes(10, 20);
    there.onGone();
    pass(100);
    assert.deepEqual([to.sentBytes, told.givenBack, from.isPaused], [0, 10, true]);
  });

  it('tells how much is lost when it is reset', (t) => {
    const { there, told, bytes } = held(t);
    bytes(10, 20);
    there.onBroken({ detail: 'ECONNRESET', isReset: true });
    there.onGone();
    assert.deepEqual([told.heldAtBreak, told.givenBack], [10, 10]);
  });

  it('gives back what it could not send on when the receiver is broken', (t) => {
    const { from, to, there, back, told, bytes, pass } = held(t);
    bytes(10, 20);
    to.breakage = { detail: 'ECONNRESET', isReset: true };
    pass(100);
    there.onGone();
    back.onGone();
    assert.deepEqual([to.sentBytes, told.givenBack, from.isPaused], [0, 10, true]);
  });

  it('gives back what it could not send on when both are gone, one of them in order', (t) => {
    const { to, there, back, told, bytes, pass } = held(t);
    bytes(10, 20);
    there.onEnd();
    there.onGone();
    back.onGone();
    assert.equal(told.givenBack, 10);
    pass(100);
    assert.deepEqual([to.sentBytes, told.hasEnded], [0, false]);
  });

  it('is not idle for as long as they wait, however long that is', (t) => {
    let nowMs = 1000;
    t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
    t.mock.method(performance, 'now', () => nowMs);
    const pass = (ms: number): void => {
      for (let passed = 0; passed < ms; passed += 50) {
        nowMs += 50;
        t.mock.timers.tick(50);
      }
    };
    const [source, destination, signal] = [new TestPeer(), new TestPeer(), new TerminationSignal()];
    const outcomes: RelayOutcome[] = [];
    let resets = 0;
    t.mock.method(source, 'reset', () => (resets += 1));
    const fast = { spend: () => 0, giveBack: () => {} };
    relay(
      {
        source,
        destination,
        signal,
        counters: { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null },
        halfCloseTimeoutMs: 0,
        idleTimeoutMs: 200,
        maxDurationMs: 0,
        workloads: [],
        backpressure: new BackpressureTracker(),
        throttles: { source: { ...fast, spend: () => 1000 }, destination: fast },
        shadow: null,
      },
      (outcome) => outcomes.push(outcome),
    );
    source.owner?.onBytes(Buffer.alloc(10));
    pass(950);
    assert.deepEqual([resets, destination.sentBytes], [0, 0]);
    pass(100);
    assert.deepEqual([resets, destination.sentBytes], [0, 10]);
    pass(350);
    for (const peer of [source, destination]) peer.owner?.onGone();
    assert.deepEqual([resets, outcomes.map(({ reason }) => reason)], [1, ['IDLE_TIMEOUT']]);
  });
});
