import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  RenewalLoop,
  type RenewalFailure,
  type RenewalOutcome,
} from '../../../../agent/control/credentials/renewal-loop.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { createLog } from '../../../../shared/log.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';

const hourMs = 3_600_000;
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const open: Fixture[] = [];
after(() => {
  for (const { loop } of open) loop.close();
});

class Fixture {
  readonly scheduler = new FakeScheduler();
  readonly asked: string[][] = [];
  readonly failures: (RenewalFailure & { readonly key: string })[] = [];
  lifeMs = 24 * hourMs;
  problem: string | null = null;
  isRejecting = false;
  waiting: Promise<void> | null = null;
  signal: AbortSignal | null = null;
  settled = 0;
  readonly loop: RenewalLoop<string>;

  constructor(o: { readonly jitterPercent?: number; readonly maxBatch?: number } = {}) {
    open.push(this);
    this.loop = new RenewalLoop({
      scheduler: this.scheduler,
      log,
      jitterPercent: o.jitterPercent ?? 0,
      maxRetryMs: 30_000,
      maxBatch: o.maxBatch ?? 10,
      attempt: (keys, signal) => this.#attempt(keys, signal),
      onFailed: (key, failure) => this.failures.push({ key, ...failure }),
      onSettled: () => this.settled++,
    });
  }

  get held(): { obtainedAtMs: number; notAfterMs: number } {
    const nowMs = this.scheduler.nowMs();
    return { obtainedAtMs: nowMs, notAfterMs: nowMs + this.lifeMs };
  }

  /** Runs the next timer, and what it started. */
  async step(): Promise<void> {
    this.scheduler.runNext();
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #attempt(keys: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, RenewalOutcome>> {
    this.asked.push([...keys]);
    this.signal = signal;
    await this.waiting;
    if (this.isRejecting) throw new Error(this.problem ?? '');
    const outcome = this.problem === null ? this.held : { problem: this.problem };
    return new Map(keys.filter((key) => key !== 'forgotten').map((key) => [key, outcome]));
  }
}

test('a key is due at half of its life, moved by the jitter to either side', () => {
  for (const [random, hours] of [
    [0, 9.6],
    [0.5, 12],
    [1, 14.4],
  ] as const) {
    const fixture = new Fixture({ jitterPercent: 10 });
    fixture.scheduler.random = () => random;
    fixture.lifeMs = 24 * hourMs;
    const { held } = fixture;
    fixture.scheduler.setClock(held.obtainedAtMs + hours * hourMs - 1000);
    fixture.loop.add('a', held);
    assert.equal(Math.round(fixture.scheduler.nextInMs ?? -1), 1000);
  }
});

test('a host that slept past the renewal renews within a minute of waking up', async () => {
  const fixture = new Fixture();
  fixture.loop.add('a', fixture.held);
  assert.equal(fixture.scheduler.nextInMs, 60_000);
  await fixture.step();
  assert.deepEqual(fixture.asked, []);
  fixture.scheduler.setClock(fixture.scheduler.nowMs() + 20 * hourMs);
  await fixture.step();
  assert.deepEqual(fixture.asked, [['a']]);
});

test('a clock that is set back makes a key due: one that is held, and one that waits to be retried', async () => {
  const fixture = new Fixture();
  fixture.loop.add('a', fixture.held);
  fixture.scheduler.setClock(fixture.scheduler.nowMs() - 2 * hourMs);
  fixture.problem = 'away';
  await fixture.step();
  assert.deepEqual(fixture.asked, [['a']]);
  assert.ok((fixture.scheduler.nextInMs ?? 0) < 30_000, 'and backs off as after any failure');
  fixture.scheduler.setClock(fixture.scheduler.nowMs() - 5 * hourMs);
  assert.equal(fixture.failures.length, 1);
  fixture.problem = null;
  fixture.scheduler.runNext();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(fixture.asked, [['a'], ['a']]);
  assert.equal(fixture.loop.problemOf('a'), null);
});

test('a step of less than a minute back changes nothing', async () => {
  const fixture = new Fixture();
  fixture.loop.add('a', fixture.held);
  fixture.scheduler.setClock(fixture.scheduler.nowMs() - 119_000);
  await fixture.step();
  assert.deepEqual(fixture.asked, []);
});

test('failures back off up to the limit, and faster retries come as the expiry approaches', async () => {
  const fixture = new Fixture();
  fixture.isRejecting = true;
  fixture.problem = 'away';
  fixture.loop.add('new', null);
  for (let attempt = 0; attempt < 7; attempt++) await fixture.step();
  assert.deepEqual(
    fixture.failures.map(({ attempts, retryInMs }) => [attempts, retryInMs]),
    [750, 1500, 3000, 6000, 12_000, 22_500, 22_500].map((retryInMs, index) => [index + 1, retryInMs]),
  );
  assert.equal(fixture.loop.problemOf('new'), 'away');
  const short = new Fixture();
  short.isRejecting = true;
  short.lifeMs = 80_000;
  short.loop.add('short', short.held);
  for (let attempt = 0; attempt < 6; attempt++) await short.step();
  for (const { retryInMs, leftMs } of short.failures) {
    assert.ok(retryInMs <= Math.max(1000, leftMs / 8), `${retryInMs} ms with ${leftMs} ms left`);
  }
});

test('keys that are due together share an attempt, up to the limit of a batch', async () => {
  const fixture = new Fixture({ maxBatch: 2 });
  for (const key of ['a', 'b', 'c']) fixture.loop.add(key, null);
  await fixture.step();
  await fixture.step();
  assert.deepEqual(fixture.asked, [['a', 'b'], ['c']]);
});

test('one attempt runs at a time, and a key that is removed meanwhile stays removed', async () => {
  const fixture = new Fixture();
  const waiting = newDeferred();
  fixture.waiting = waiting.promise;
  fixture.loop.add('a', null);
  fixture.scheduler.runNext();
  fixture.loop.add('b', null);
  fixture.loop.retryNow();
  assert.equal(fixture.scheduler.nextInMs, null);
  fixture.loop.delete('a');
  waiting.resolve();
  await new Promise((done) => setImmediate(done));
  assert.equal(fixture.scheduler.nextInMs, 0);
  await fixture.step();
  assert.deepEqual(fixture.asked, [['a'], ['b']]);
});

test('a retry now concerns only what failed', async () => {
  const fixture = new Fixture();
  fixture.loop.add('a', fixture.held);
  fixture.loop.retryNow();
  assert.equal(fixture.scheduler.nextInMs, 60_000);
  fixture.problem = 'away';
  fixture.loop.add('b', null);
  await fixture.step();
  assert.equal(fixture.scheduler.nextInMs, 750);
  fixture.loop.retryNow();
  assert.equal(fixture.scheduler.nextInMs, 0);
  await fixture.step();
  assert.deepEqual(fixture.asked, [['b'], ['b']]);
});

test('no answer for a key, and an answer that has expired already, count as failures', async () => {
  const fixture = new Fixture();
  fixture.loop.add('forgotten', null);
  await fixture.step();
  assert.match(fixture.loop.problemOf('forgotten') ?? '', /did not answer/);
  fixture.loop.delete('forgotten');
  fixture.lifeMs = -hourMs;
  fixture.loop.add('late', null);
  await fixture.step();
  assert.match(fixture.loop.problemOf('late') ?? '', /compare this host's clock/);
  assert.equal(fixture.scheduler.nextInMs, 750);
});

test('a closed loop aborts its attempt, and what the attempt brings counts for nothing', async () => {
  const fixture = new Fixture();
  const waiting = newDeferred();
  fixture.waiting = waiting.promise;
  fixture.loop.add('a', null);
  fixture.scheduler.runNext();
  fixture.loop.close();
  assert.equal(fixture.signal?.aborted, true);
  waiting.resolve();
  await new Promise((done) => setImmediate(done));
  assert.equal(fixture.settled, 0);
  assert.equal(fixture.scheduler.nextInMs, null);
});
