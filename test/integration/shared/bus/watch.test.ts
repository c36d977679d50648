import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bucket, BucketChange } from '../../../../shared/bus/bucket.js';
import type { Bus, BusStatus } from '../../../../shared/bus/bus.js';
import { buckets } from '../../../../shared/bus/subjects.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { Inbox, within } from '../../../support/bus/bus-deadline.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';

const settings = { history: 1, maxBytes: -1, replicas: 1 } as const;
const bytes = (text: string): Uint8Array => Buffer.from(text);

/** `+key=value` and `-key`, and `ready`: what a watch delivered, in order. */
class WatchLog extends Inbox<string> {
  readonly onEntry = (change: BucketChange): void => {
    if (change.operation === 'put') this.push(`+${change.key}=${Buffer.from(change.value).toString()}`);
    else this.push(`-${change.key}`);
  };

  readonly onReady = (): void => this.push('ready');

  async untilHas(item: string): Promise<void> {
    await this.until(item, (items) => items.includes(item));
  }
}

/** The statuses that a bus tells from now on. */
function statusesOf(bus: Bus): Inbox<BusStatus> {
  const statuses = new Inbox<BusStatus>();
  bus.onStatus(statuses.push);
  return statuses;
}

async function setUp(nats: NatsFixture): Promise<{ controller: Bus; bucket: Bucket; agent: Bus; seen: Bucket }> {
  const controller = await nats.controller();
  const bucket = await controller.bucket(buckets.registry, { create: settings });
  const agent = await nats.agent('node1');
  return { controller, bucket, agent, seen: await agent.bucket(buckets.registry) };
}

test('a watch lists what is there, is ready, and then follows changes and deletions', async () => {
  await using nats = await NatsFixture.start();
  const { bucket, seen } = await setUp(nats);
  await bucket.put('workload.shop.web', bytes('1'));
  await bucket.put('service.shop.web', bytes('1'));
  const stop = new AbortController();
  const log = new WatchLog();
  const watch = seen.watch({ onEntry: log.onEntry, onReady: log.onReady, signal: stop.signal });
  await log.untilHas('ready');
  assert.deepEqual(log.items, ['+workload.shop.web=1', '+service.shop.web=1', 'ready']);
  assert.equal(watch.isLive, true);
  await bucket.put('workload.shop.web', bytes('2'));
  await bucket.delete('service.shop.web');
  await log.untilHas('-service.shop.web');
  assert.deepEqual(log.items.slice(3), ['+workload.shop.web=2', '-service.shop.web']);
  stop.abort();
  await within('the end of the watch', watch.closed);
  assert.equal(watch.isLive, false);
});

test('a watch of an empty bucket is ready at once, and one of a prefix sees only that prefix', async () => {
  await using nats = await NatsFixture.start();
  const { bucket, seen } = await setUp(nats);
  const stop = new AbortController();
  const log = new WatchLog();
  seen.watch({ prefix: 'workload', onEntry: log.onEntry, onReady: log.onReady, signal: stop.signal });
  await log.untilHas('ready');
  await bucket.put('service.shop.web', bytes('1'));
  await bucket.put('workload.shop.web', bytes('1'));
  await log.untilHas('+workload.shop.web=1');
  assert.deepEqual(log.items, ['ready', '+workload.shop.web=1']);
  stop.abort();
});

test('a watch of a bucket that does not exist reports it, is never ready, and starts when it appears', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const agent = await nats.agent('node1');
  const seen = await agent.bucket(buckets.registry);
  const stop = new AbortController();
  const log = new WatchLog();
  const problems = new Inbox<unknown>();
  const { onEntry, onReady } = log;
  seen.watch({ onEntry, onReady, onProblem: problems.push, signal: stop.signal });
  await problems.until('a problem', (items) => items.length > 0);
  assert.equal((problems.items[0] as { code?: string }).code, 'BUS_NOT_FOUND');
  assert.deepEqual(log.items, []);
  const bucket = await controller.bucket(buckets.registry, { create: settings });
  await bucket.put('workload.a.b', bytes('1'));
  await log.untilHas('ready');
  await log.untilHas('+workload.a.b=1');
  stop.abort();
});

test('a watch goes on after the server was killed and delivers only what changed meanwhile', async () => {
  await using nats = await NatsFixture.start();
  const { controller, bucket, agent, seen } = await setUp(nats);
  await bucket.put('workload.a.kept', bytes('1'));
  await bucket.put('workload.a.changed', bytes('1'));
  const stop = new AbortController();
  const log = new WatchLog();
  seen.watch({ onEntry: log.onEntry, onReady: log.onReady, signal: stop.signal });
  await log.untilHas('ready');
  const seenBefore = log.items.length;
  const { pid } = nats.server;
  // Until it notices, a bus calls itself connected, so only what it tells after the kill counts.
  const [ofAgent, ofController] = [statusesOf(agent), statusesOf(controller)];
  process.kill(pid ?? assert.fail(), 'SIGKILL');
  await ofAgent.until('the loss', (statuses) => statuses.includes('disconnected'));
  await ofController.until('the return', (statuses) => statuses.includes('connected'), 20_000);
  await bucket.put('workload.a.changed', bytes('2'));
  await log.untilHas('+workload.a.changed=2');
  assert.deepEqual(log.items.slice(seenBefore), ['+workload.a.changed=2']);
  assert.notEqual(nats.server.pid, pid);
  // The bus may be back before the supervisor has seen that the server is ready, which is when it counts.
  await waitUntil('one restart', () => (nats.server.restarts === 1 ? true : undefined), 10_000);
  stop.abort();
});

test('after a wiped store a watch delivers the new content and the absence of the old', async () => {
  await using nats = await NatsFixture.start();
  const { controller, bucket, seen } = await setUp(nats);
  await bucket.put('workload.a.gone', bytes('1'));
  await bucket.put('workload.a.back', bytes('1'));
  const stop = new AbortController();
  const log = new WatchLog();
  const problems = new Inbox<unknown>();
  const { onEntry, onReady } = log;
  seen.watch({ onEntry, onReady, onProblem: problems.push, signal: stop.signal });
  await log.untilHas('ready');
  await controller.request(`$JS.API.STREAM.DELETE.KV_${buckets.registry}`, new Uint8Array(), { timeoutMs: 5000 });
  const recreated = await controller.bucket(buckets.registry, { create: settings });
  // The same revision as before, with another value.
  await recreated.put('workload.a.back', bytes('other'));
  await log.until('the deletion', (items) => items.includes('-workload.a.gone'), 30_000);
  assert.deepEqual(log.items.slice(3), ['+workload.a.back=other', '-workload.a.gone']);
  stop.abort();
});

test('many entries arrive in order and complete before a watch is ready', async () => {
  await using nats = await NatsFixture.start();
  const { bucket, seen } = await setUp(nats);
  const keys = Array.from({ length: 2000 }, (_, index) => `workload.load.w${index}`);
  const value = bytes('x'.repeat(600));
  for (let start = 0; start < keys.length; start += 200) {
    await Promise.all(keys.slice(start, start + 200).map((key) => bucket.put(key, value)));
  }
  const stop = new AbortController();
  const log = new WatchLog();
  seen.watch({ onEntry: log.onEntry, onReady: log.onReady, signal: stop.signal });
  await log.untilHas('ready');
  assert.equal(log.items.indexOf('ready'), keys.length);
  assert.deepEqual((await seen.keys()).sort(), [...keys].sort());
  stop.abort();
});

test('a handler that throws is reported and neither ends the watch nor the connection', async () => {
  await using nats = await NatsFixture.start();
  const { bucket, agent, seen } = await setUp(nats);
  const stop = new AbortController();
  const log = new WatchLog();
  const problems = new Inbox<unknown>();
  const onEntry = (change: BucketChange): void => {
    log.onEntry(change);
    if (change.key.endsWith('bad')) throw new Error('bad entry');
  };
  seen.watch({ onEntry, onReady: log.onReady, onProblem: problems.push, signal: stop.signal });
  await log.untilHas('ready');
  await bucket.put('workload.a.bad', bytes('1'));
  await bucket.put('workload.a.good', bytes('1'));
  await log.untilHas('+workload.a.good=1');
  assert.match(String(problems.items[0]), /bad entry/);
  assert.equal(agent.status, 'connected');
  stop.abort();
});
