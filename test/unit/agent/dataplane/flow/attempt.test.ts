import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { refused, unreachable } from '../../../../../agent/dataplane/connection/ending.js';
import { Attempt, type AttemptLimit } from '../../../../../agent/dataplane/flow/attempt.js';
import { ip } from '../../../../support/routing/registry-entries.js';

const address = { ip: ip('198.18.0.1'), port: 80 };
const limit = { afterMs: 50, by: 'connectTimeout of its DestinationRule' };
const detail = 'ETIMEDOUT 198.18.0.1:80: connectTimeout of its DestinationRule';

/** How an attempt ends that waits for `wait` until its time is over. */
async function over(wait: (signal: TerminationSignal) => Promise<unknown>, of: AttemptLimit = limit) {
  const attempt = new Attempt(new TerminationSignal(), of);
  const { signal } = attempt;
  void wait(signal);
  await new Promise<void>((resolve) => signal.onCut(resolve));
  return attempt.end(refused('CONNECT_TIMEOUT'), address);
}

const never = new Promise<never>(() => {});

describe('an attempt whose time is over', () => {
  it('blames the endpoint that was asked', async () => {
    assert.deepEqual(await over(async () => await never), unreachable('CONNECT_TIMEOUT', detail));
  });

  it('blames nothing of the endpoint while it waits for this agent', async () => {
    const ended = await over(async (signal) => await signal.waitsFor(never));
    const own = { ...unreachable('CONNECT_TIMEOUT', `${detail}, most of it in a line of this agent`), isOwn: true };
    assert.deepEqual(ended, own);
  });

  it('blames nothing of the endpoint to which those before it left less than half of the time', async () => {
    const ended = await over(async () => await never, { ...limit, wholeMs: 1000 });
    const text = `${detail}, of which the endpoints before it left 50 ms`;
    assert.deepEqual(ended, { ...unreachable('CONNECT_TIMEOUT', text), isOwn: true });
    const most = await over(async () => await never, { ...limit, wholeMs: 90 });
    assert.deepEqual(most, unreachable('CONNECT_TIMEOUT', detail));
  });

  it('goes by whether it waits for the endpoint, where others began to ask it', async () => {
    const begunAtMs = performance.now();
    const asked = await over(async (signal) => await signal.waitsFor(never, () => begunAtMs));
    assert.ok(!asked.ok && asked.isOwn === undefined);
  });

  it('has had no time for the endpoint after a wait that ended with it', async () => {
    const emitter = new EventTarget();
    const attempt = new Attempt(new TerminationSignal(), limit);
    const { signal } = attempt;
    // The line moves on in the turn in which the time is over.
    signal.onCut(() => emitter.dispatchEvent(new Event('moved')));
    await signal.waitsFor(once(emitter, 'moved'));
    const ended = attempt.end(refused('CONNECT_TIMEOUT'), address);
    assert.ok(!ended.ok && ended.isOwn === true && ended.isRetryable);
  });
});
