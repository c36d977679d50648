import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { agentPermissions } from '../../../../controller/nats/agent-permissions.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import type { DeniedOperation } from '../../../../shared/bus/bus.js';
import {
  buckets,
  consumerNamesOf,
  consumerPrefixFor,
  flowStream,
  inboxPrefixFor,
  parseSubject,
  subjectFor,
} from '../../../../shared/bus/subjects.js';
import { Inbox, within } from '../../../support/bus/bus-deadline.js';
import { NatsFixture, settled } from '../../../support/bus/bus-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

const settings = { history: 1, maxBytes: -1, replicas: 1 } as const;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

function fail(error: unknown): void {
  assert.fail(String(error));
}

let nats: NatsFixture;
let controller: Bus;
let agent: Bus;

before(async () => {
  nats = await NatsFixture.start();
  controller = await nats.controller();
  for (const name of Object.values(buckets)) {
    const bucket = await controller.bucket(name, { create: settings });
    await bucket.put('workload.shop.web', Buffer.from(`of ${name}`));
  }
  await controller.ensureStream({
    name: flowStream,
    subjects: ['culvert.v1.flows.*'],
    maxAgeMs: 60_000,
    maxBytes: 1e6,
    whenFull: 'drop oldest',
  });
  agent = await nats.agent('node1');
});
after(() => nats[Symbol.asyncDispose]());

/** Does something that must be denied and waits for the server's word on it. */
async function denied(bus: Bus, act: () => unknown): Promise<DeniedOperation> {
  const inbox = new Inbox<DeniedOperation>();
  const stop = bus.onDenied(inbox.push);
  await Promise.resolve(act()).catch(() => undefined);
  await inbox.until('a denial', (items) => items.length > 0);
  stop();
  return inbox.items[0] ?? assert.fail();
}

test('an agent asks on its own subjects and gets the answer', async () => {
  const stop = controller.serve(
    'culvert.v1.sign.*',
    ({ subject, bytes }) => Buffer.from(`${parseSubject(subject)?.node}:${text(bytes)}`),
    fail,
  );
  await settled(controller);
  const answer = await agent.request(subjectFor('sign', nodeNamed('node1')), Buffer.from('csr'), { timeoutMs: 5000 });
  assert.equal(text(answer), 'node1:csr');
  stop();
});

test('an agent stores flow records in the stream', async () => {
  await agent.store(subjectFor('flows', nodeNamed('node1')), Buffer.from('{}'), { timeoutMs: 5000 });
});

for (const name of [buckets.rules, buckets.registry]) {
  test(`an agent reads and follows ${name}`, async () => {
    const bucket = await agent.bucket(name);
    assert.equal(text((await bucket.get('workload.shop.web'))?.value ?? Buffer.of()), `of ${name}`);
    assert.equal(await bucket.get('absent'), undefined);
    assert.deepEqual(await bucket.keys(), ['workload.shop.web']);
  });
}

for (const verb of ['sign', 'renew', 'status', 'flows', 'recent'] as const) {
  test(`an agent cannot publish ${verb} of another node, and the controller hears nothing of it`, async () => {
    const heard: string[] = [];
    const stop = controller.serve(`culvert.v1.${verb}.*`, ({ subject }) => void heard.push(subject), fail);
    await settled(controller);
    const subject = subjectFor(verb, nodeNamed('node2'));
    assert.deepEqual(await denied(agent, () => agent.publish(subject, Buffer.from('x'))), {
      operation: 'publish',
      subject,
    });
    await settled(controller);
    assert.deepEqual(heard, []);
    stop();
  });
}

for (const name of Object.values(buckets)) {
  test(`an agent cannot write into ${name}`, async () => {
    const bucket = await agent.bucket(name);
    const refused = await denied(agent, () => bucket.put('workload.shop.web', Buffer.from('evil')));
    assert.deepEqual(refused, { operation: 'publish', subject: `$KV.${name}.workload.shop.web` });
    await denied(agent, () => bucket.delete('workload.shop.web'));
    const entry = await (await controller.bucket(name)).get('workload.shop.web');
    assert.equal(text(entry?.value ?? Buffer.of()), `of ${name}`);
  });
}

for (const name of [buckets.config, buckets.status]) {
  test(`an agent can neither read nor follow ${name}`, async () => {
    const bucket = await agent.bucket(name);
    await denied(agent, () => bucket.get('workload.shop.web'));
    await denied(agent, () => bucket.keys());
    await assert.rejects(bucket.get('workload.shop.web'), { code: 'BUS_DENIED' });
  });
}

test('an agent cannot subscribe to replies of another node, to the buckets or to everything', async () => {
  for (const subject of [`${inboxPrefixFor(nodeNamed('node2'))}.>`, '_INBOX.>', '$KV.>', 'culvert.v1.sign.*', '>']) {
    const refused = await denied(agent, () =>
      agent.serve(
        subject,
        () => undefined,
        () => undefined,
      ),
    );
    assert.deepEqual(refused, { operation: 'subscribe', subject });
  }
});

test('an agent cannot delete, purge, list or describe streams', async () => {
  for (const api of [
    'STREAM.DELETE.KV_culvert_rules',
    'STREAM.PURGE.KV_culvert_rules',
    'STREAM.NAMES',
    'STREAM.INFO.KV_culvert_rules',
  ]) {
    await denied(agent, () => agent.publish(`$JS.API.${api}`, Buffer.of()));
  }
});

test('a consumer that an agent points at a foreign subject passes for no request of that node and writes no bucket', async () => {
  const heard: string[] = [];
  const problems = new Inbox<unknown>();
  // A subscription to exactly this subject: a push consumer finds no interest in a wildcard.
  const stop = controller.serve(
    subjectFor('sign', nodeNamed('node2')),
    ({ subject }) => {
      heard.push(subject);
      return undefined;
    },
    problems.push,
  );
  await settled(controller);
  // A node that reads nothing else: none of its names is in use, whichever of them a bus looks at first.
  const node = 'node3';
  const rogue = await nats.agent(node);
  const names = consumerNamesOf(consumerPrefixFor(nodeNamed(node)));
  const targets = [
    subjectFor('sign', nodeNamed('node2')),
    '$KV.culvert_config.evil',
    '$JS.API.STREAM.DELETE.KV_culvert_config',
  ];
  for (const [index, target] of targets.entries()) {
    const config = {
      name: names[index],
      deliver_subject: target,
      deliver_policy: 'all',
      ack_policy: 'none',
      headers_only: true,
      filter_subject: '$KV.culvert_rules.>',
    };
    const created = await rogue.request(
      `$JS.API.CONSUMER.CREATE.KV_culvert_rules.${names[index]}`,
      Buffer.from(JSON.stringify({ stream_name: 'KV_culvert_rules', config })),
      { timeoutMs: 5000 },
    );
    assert.doesNotMatch(text(created), /"error"/, 'the attack is really tried');
  }
  await problems.until('the delivery', (items) => items.length > 0);
  assert.match(
    String(problems.items[0]),
    /dropped a request on \$KV\.culvert_rules\.workload\.shop\.web: its reply subject/,
  );
  assert.deepEqual(heard, []);
  stop();
  const config = await controller.bucket(buckets.config);
  assert.deepEqual(await config.keys(), ['workload.shop.web']);
});

test('an agent that names a bucket or an order to JetStream as its inbox gets no answer written there', async () => {
  const problems = new Inbox<unknown>();
  const heard: string[] = [];
  const stop = controller.serve(
    'culvert.v1.sign.*',
    ({ subject }) => {
      heard.push(subject);
      return Buffer.from('{}');
    },
    problems.push,
  );
  await settled(controller);
  const inboxes = [`$KV.${buckets.registry}.workload`, `$JS.API.STREAM.PURGE`, inboxPrefixFor(nodeNamed('node2'))];
  for (const [index, inboxPrefix] of inboxes.entries()) {
    const rogue = await nats.agent('node1', { inboxPrefix });
    await denied(rogue, () => rogue.request(subjectFor('sign', nodeNamed('node1')), Buffer.of(), { timeoutMs: 500 }));
    await problems.until(`the refusal of ${inboxPrefix}`, (items) => items.length > index);
    await rogue.close();
  }
  assert.match(
    String(problems.items[0]),
    /dropped a request on culvert\.v1\.sign\.node1: its reply subject \$KV\.culvert_registry/,
  );
  assert.deepEqual(heard, []);
  assert.deepEqual(await (await controller.bucket(buckets.registry)).keys(), ['workload.shop.web']);
  stop();
});

test('every refusal reaches the controller with the public key of the user', async () => {
  const [publication] = nats.refused.filter((refused) => refused.subject === subjectFor('sign', nodeNamed('node2')));
  assert.equal(publication?.operation, 'publish');
  assert.match(publication?.user ?? '', /^U[A-Z2-7]{55}$/);
  const [subscription] = nats.refused.filter((refused) => refused.subject === '$KV.>');
  assert.equal(subscription?.operation, 'subscribe');
  assert.equal(subscription?.user, publication?.user);
});

test('a user signed by another account and a user with an expired token are refused and counted', async () => {
  const stranger = await NatsFixture.start();
  try {
    const problems = new Inbox<unknown>();
    const stop = new AbortController();
    const foreign = stranger.connect(
      'node1',
      agentPermissions(nodeNamed('node1')),
      inboxPrefixFor(nodeNamed('node1')),
      {
        servers: [`127.0.0.1:${nats.server.port}`],
        tls: { caPem: nats.ca.root.rootPem },
        onProblem: problems.push,
        signal: stop.signal,
      },
    );
    await problems.until('a refusal', (items) => items.length > 1);
    stop.abort();
    await assert.rejects(within('the end', foreign), { name: 'AbortError' });
    assert.ok(nats.refused.some((refused) => refused.operation === 'connect'));
  } finally {
    await stranger[Symbol.asyncDispose]();
  }
});
