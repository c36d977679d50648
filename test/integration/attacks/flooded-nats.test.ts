import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ConsumerSweep } from '../../../controller/nats/consumer-sweep.js';
import {
  bucketStream,
  buckets,
  controllerInboxPrefix,
  inboxPrefixFor,
  subjectFor,
} from '../../../shared/bus/subjects.js';
import { encodeFlowBatch } from '../../../shared/wire/flow-batch.js';
import { patientMs } from '../../lab/patience.js';
import { Inbox } from '../../support/bus/bus-deadline.js';
import { NatsFixture, settled } from '../../support/bus/bus-fixture.js';
import { eventually, silentLog } from '../../support/controller/controller-fixture.js';
import { historyOn } from '../../support/controller/flow-history-reader.js';
import { reportedFlow } from '../../support/controller/reported-flow.js';
import { nodeNamed } from '../../support/routing/names.js';

const [evilNode, honestNode] = [nodeNamed('evil'), nodeNamed('honest')];
const timeoutMs = 30_000;

const isDone = (step: Promise<unknown>): Promise<boolean> =>
  step.then(
    () => true,
    () => false,
  );

test('consumers that a node leaves in a bucket are removed, and others go on reading', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const create = { history: 1, maxBytes: -1, replicas: 1 } as const;
  const bucket = await controller.bucket(buckets.rules, { create });
  await controller.bucket(buckets.registry, { create });
  const [evil, honest] = [await nats.earlierAgent(evilNode), await nats.agent(honestNode)];
  const seen = new Inbox<string>();
  const reads = await honest.bucket(buckets.rules);
  const stop = new AbortController();
  reads.watch({ onEntry: ({ key }) => seen.push(key), onReady: () => seen.push('ready'), signal: stop.signal });
  await seen.until('the honest agent reads', (keys) => keys.includes('ready'));

  const stream = bucketStream(buckets.rules);
  const filter = `$KV.${buckets.rules}.>`;
  const leave = async (name: string, config: object): Promise<void> => {
    const body = { stream_name: stream, config: { name, filter_subject: filter, ack_policy: 'none', ...config } };
    const bytes = Buffer.from(JSON.stringify(body));
    const answer = await evil.request(`$JS.API.CONSUMER.CREATE.${stream}.${name}.${filter}`, bytes, { timeoutMs });
    assert.doesNotMatch(Buffer.from(answer).toString(), /"error"/);
  };
  const members = new Set([evilNode, honestNode]);
  for (let count = 0; count < 30; count++) {
    const deliverSubject = `${inboxPrefixFor(evilNode)}.${count}`;
    await leave(`mine-${count}`, { deliver_subject: deliverSubject, inactive_threshold: 30e9 });
    await leave(`long-${count}`, { deliver_subject: deliverSubject, inactive_threshold: 86_400e9 });
    const controllers = `${controllerInboxPrefix}.${count}`;
    await leave(`pretended-${count}`, { deliver_subject: controllers, inactive_threshold: 30e9 });
    const invented = `${inboxPrefixFor(nodeNamed(`invented-${count}`))}.0`;
    await leave(`invented-${count}`, { deliver_subject: invented, inactive_threshold: 30e9 });
    await leave(`theirs-${count}`, { deliver_subject: subjectFor('status', honestNode), inactive_threshold: 30e9 });
  }
  using sweep = new ConsumerSweep({ bus: controller, isMember: (node) => members.has(node), log: silentLog });
  await sweep.sweep();
  const left = await controller.consumersOf(stream);
  assert.ok(left.filter(({ name }) => name.startsWith('mine-')).length <= 4, 'nothing reads them');
  assert.deepEqual(
    left.filter(({ name }) => /^(?:long|pretended|invented|theirs)-/.test(name)),
    [],
  );
  await bucket.put('after', new Uint8Array(1));
  await seen.until('the honest agent still reads', (keys) => keys.includes('after'));

  members.delete(evilNode);
  await sweep.sweep();
  const names = (await controller.consumersOf(stream)).map(({ name }) => name);
  assert.equal(names.filter((name) => name.startsWith('mine-')).length, 0, 'of a node that was removed none stays');
  assert.ok(names.length > 0);
  stop.abort();
});

test('a node that makes consumers by the thousand is cleared away at once, whatever names it gives', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const create = { history: 1, maxBytes: -1, replicas: 1 } as const;
  for (const name of [buckets.rules, buckets.registry]) await controller.bucket(name, { create });
  const evil = await nats.earlierAgent(evilNode);
  using _sweep = new ConsumerSweep({ bus: controller, isMember: (node) => node === evilNode, log: silentLog });
  await settled(controller);
  const stream = bucketStream(buckets.rules);
  const filter = `$KV.${buckets.rules}.>`;
  const inboxes = [controllerInboxPrefix, inboxPrefixFor(evilNode), inboxPrefixFor(honestNode)];
  const flood = Array.from({ length: 500 }, async (_, index) => {
    const deliver = { deliver_subject: `${inboxes[index % 3]}.${index}`, inactive_threshold: 86_400e9 };
    const config = { name: `c${index}`, filter_subject: filter, ack_policy: 'none', mem_storage: true, ...deliver };
    const bytes = Buffer.from(JSON.stringify({ stream_name: stream, config }));
    await evil.request(`$JS.API.CONSUMER.CREATE.${stream}.c${index}.${filter}`, bytes, { timeoutMs });
  });
  await Promise.all(flood);
  await eventually('few are left', async () =>
    (await controller.consumersOf(stream)).length < 600 ? true : undefined,
  );
});

test(
  'a node that floods the stream while no controller reads erases no history, and others store again once one does',
  { timeout: patientMs(90_000) },
  async () => {
    await using nats = await NatsFixture.start();
    const controller = await nats.controller();
    const maxBytes = 24 * 1024 * 1024;
    const [evil, honest] = [await nats.agent(evilNode), await nats.agent(honestNode)];
    const storeHonest = async (sequence: number, ports = [sequence]): Promise<void> => {
      const flows = ports.map((port) => reportedFlow(Date.now(), { port }));
      const batch = encodeFlowBatch({ run: 'a'.repeat(16), sequence, sentAtMs: Date.now(), notKept: 0, flows });
      await honest.store(subjectFor('flows', honestNode), batch, { timeoutMs });
    };
    const many = Array.from({ length: 500 }, (_, index) => 1000 + 7 * index);
    {
      await using reader = historyOn(controller, { maxBytes });
      await reader.current();
    }
    for (let sequence = 1; sequence <= 10; sequence++) await storeHonest(sequence);
    const flood = Array.from({ length: 200 }, () =>
      evil.store(subjectFor('flows', evilNode), randomBytes(200_000), { timeoutMs }).then(
        () => null,
        (error: unknown) => (error as { code: string }).code,
      ),
    );
    const refused = (await Promise.all(flood)).filter((code) => code !== null);
    assert.ok(refused.length > 50, `${refused.length} were refused`);
    assert.deepEqual([...new Set(refused)], ['BUS_STORE_FULL']);
    // Smaller messages fit where large ones do not.
    for (const bytes of [50_000, 5000, 500]) {
      while (await isDone(evil.store(subjectFor('flows', evilNode), randomBytes(bytes), { timeoutMs })));
    }
    await assert.rejects(storeHonest(11, many), { code: 'BUS_STORE_FULL' }, 'an agent keeps it and adds it up');

    await using again = historyOn(controller, { maxBytes });
    await again.current();
    await eventually('the stream takes records again', async () =>
      (await isDone(storeHonest(11, many))) ? true : undefined,
    );
    const portsOf = (): number[] =>
      again.history
        .query({ sinceMs: 0, namespace: null })
        .flows.map(({ port }) => port ?? 0)
        .sort((x, y) => x - y);
    await eventually('all are there', async () => (portsOf().length === 10 + many.length ? true : undefined));
    assert.deepEqual(portsOf(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...many]);
  },
);

test(
  'a node that floods the stream of flow records erases no history but its own',
  { timeout: patientMs(90_000) },
  async () => {
    await using nats = await NatsFixture.start();
    const controller = await nats.controller();
    const maxBytes = 48 * 1024 * 1024;
    const [evil, honest] = [await nats.agent(evilNode), await nats.agent(honestNode)];
    {
      await using reader = historyOn(controller, { maxBytes });
      await reader.current();
      for (let sequence = 1; sequence <= 10; sequence++) {
        const flows = [reportedFlow(Date.now(), { port: sequence })];
        const batch = encodeFlowBatch({ run: 'a'.repeat(16), sequence, sentAtMs: Date.now(), notKept: 0, flows });
        await honest.store(subjectFor('flows', honestNode), batch, { timeoutMs });
      }
      // More than the stream may hold, in the largest messages that it takes.
      const flood = 420;
      for (let sent = 0; sent < flood; sent++) {
        await evil.store(subjectFor('flows', evilNode), randomBytes(200_000), { timeoutMs });
      }
      await eventually('all is read', async () => (reader.outcomes.length === flood + 10 ? true : undefined));
      const limited = reader.outcomes.filter((outcome) => outcome === 'limited').length;
      assert.ok(limited > 50, `${limited} were not even unpacked`);
    }
    await using again = historyOn(controller, { maxBytes });
    await again.current();
    const ports = again.history.query({ sinceMs: 0, namespace: null }).flows.map(({ port }) => port);
    assert.deepEqual(
      ports.sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    );
  },
);
