import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createUser, mintUserJwt } from '../../../shared/bus/nats-accounts.js';
import type { Bus, DeniedOperation } from '../../../shared/bus/bus.js';
import {
  bucketStream,
  buckets,
  consumerNamesOf,
  consumerPrefixFor,
  consumersOfNode,
  inboxPrefixFor,
} from '../../../shared/bus/subjects.js';
import { agentPermissions } from '../../../controller/nats/agent-permissions.js';
import { Inbox } from '../../support/bus/bus-deadline.js';
import { NatsFixture } from '../../support/bus/bus-fixture.js';
import { nodeNamed } from '../../support/routing/names.js';

const [evilNode, honestNode] = [nodeNamed('evil'), nodeNamed('honest')];
const [evilNames, honestNames] = [evilNode, honestNode].map((node) => consumerNamesOf(consumerPrefixFor(node))) as [
  string[],
  string[],
];
const timeoutMs = 10_000;
const stream = bucketStream(buckets.rules);
const filter = `$KV.${buckets.rules}.>`;

let nats: NatsFixture;
let controller: Bus;
let evil: Bus;

before(async () => {
  nats = await NatsFixture.start();
  controller = await nats.controller();
  for (const name of Object.values(buckets)) {
    const bucket = await controller.bucket(name, { create: { history: 1, maxBytes: -1, replicas: 1 } });
    await bucket.put('key', Buffer.from('value'));
  }
  evil = await nats.agent(evilNode);
});
after(() => nats[Symbol.asyncDispose]());

function bodyOf(name: string, config: object = {}, of = stream): Buffer {
  const deliver = { deliver_subject: `${inboxPrefixFor(evilNode)}.x`, inactive_threshold: 86_400e9, mem_storage: true };
  return Buffer.from(
    JSON.stringify({
      stream_name: of,
      config: { name, filter_subject: filter, ack_policy: 'none', ...deliver, ...config },
    }),
  );
}

async function denied(act: () => Promise<unknown>): Promise<void> {
  const inbox = new Inbox<DeniedOperation>();
  const stop = evil.onDenied(inbox.push);
  await act().catch(() => undefined);
  await inbox.until('a denial', (items) => items.length > 0);
  stop();
}

async function answerTo(subject: string, body: Buffer): Promise<string> {
  return Buffer.from(await evil.request(subject, body, { timeoutMs })).toString();
}

const namesOf = async (of: string): Promise<string[]> => (await controller.consumersOf(of)).map(({ name }) => name);

test('a node makes consumers under its own names only, however it asks', async () => {
  const api = '$JS.API.CONSUMER';
  const asks: [subject: string, body: Buffer][] = [
    [`${api}.CREATE.${stream}.other`, bodyOf('other')],
    [`${api}.CREATE.${stream}.other.${filter}`, bodyOf('other')],
    [`${api}.CREATE.${stream}.${honestNames[0]}`, bodyOf(honestNames[0] ?? '')],
    [`${api}.CREATE.${stream}.${evilNames[0]}.${filter}`, bodyOf(evilNames[0] ?? '')],
    [`${api}.CREATE.${stream}`, bodyOf('other')],
    [`${api}.DURABLE.CREATE.${stream}.${evilNames[0]}`, bodyOf('', { durable_name: evilNames[0] })],
    [`${api}.CREATE.${stream}.${evilNames[0]}x`, bodyOf(`${evilNames[0]}x`)],
    [
      `${api}.CREATE.${bucketStream(buckets.config)}.${evilNames[0]}`,
      bodyOf(evilNames[0] ?? '', {}, 'KV_culvert_config'),
    ],
  ];
  for (const [subject, body] of asks) await denied(() => evil.request(subject, body, { timeoutMs: 500 }));
  // The subject is its own, and the message says another name or another stream.
  const own = `${api}.CREATE.${stream}.${evilNames[0]}`;
  const otherBodies = [
    bodyOf('other'),
    bodyOf(honestNames[0] ?? ''),
    bodyOf('', { durable_name: 'other' }),
    bodyOf(evilNames[0] ?? '', { durable_name: 'other' }),
    bodyOf(evilNames[0] ?? '', { filter_subject: '$KV.culvert_config.>' }, bucketStream(buckets.config)),
    bodyOf(evilNames[0] ?? '', { filter_subject: '$KV.culvert_config.>' }),
  ];
  for (const body of otherBodies) {
    await answerTo(own, body);
    const found = await namesOf(stream);
    assert.deepEqual(
      found.filter((name) => !evilNames.includes(name)),
      [],
      body.toString(),
    );
  }
  assert.deepEqual(await namesOf(bucketStream(buckets.config)), []);
});

test('a node has a few consumers in a bucket at most, and its agent reads all the same', async () => {
  for (let round = 0; round < 3; round++) {
    for (const name of evilNames) await answerTo(`$JS.API.CONSUMER.CREATE.${stream}.${name}`, bodyOf(name));
  }
  assert.equal((await namesOf(stream)).filter((name) => evilNames.includes(name)).length, consumersOfNode);
  const entries = await (await evil.bucket(buckets.rules)).entries();
  assert.deepEqual(
    entries.map(({ key }) => key),
    ['key'],
    'what nothing reads is made again',
  );
});

test('a node cannot look at, remove or steal the consumers of another one', async () => {
  const honest = await nats.agent(honestNode);
  const seen = new Inbox<string>();
  const stop = new AbortController();
  const bucket = await honest.bucket(buckets.rules);
  bucket.watch({ onEntry: ({ key }) => seen.push(key), onReady: () => seen.push('ready'), signal: stop.signal });
  await seen.until('it reads', (keys) => keys.includes('ready'));
  const [name = ''] = (await namesOf(stream)).filter((each) => honestNames.includes(each));
  assert.notEqual(name, '');
  for (const what of ['INFO', 'DELETE', 'CREATE', 'MSG.NEXT']) {
    await denied(() => evil.request(`$JS.API.CONSUMER.${what}.${stream}.${name}`, bodyOf(name), { timeoutMs: 500 }));
  }
  assert.ok((await namesOf(stream)).includes(name));
  await (await controller.bucket(buckets.rules)).put('after', Buffer.from('value'));
  await seen.until('it still reads', (keys) => keys.includes('after'));
  stop.abort();
});

test('two processes of one node read at the same time, also after the server has started again', async () => {
  const node = nodeNamed('twice');
  const processes = [await nats.agent(node), await nats.agent(node)];
  const seen = new Inbox<string>();
  const stop = new AbortController();
  for (const [index, bus] of processes.entries()) {
    for (const each of [buckets.rules, buckets.registry]) {
      const bucket = await bus.bucket(each);
      bucket.watch({
        onEntry: ({ key }) => seen.push(`${index} ${each} ${key}`),
        onReady: () => undefined,
        onProblem: () => undefined,
        signal: stop.signal,
      });
    }
  }
  const all = (key: string): string[] =>
    [0, 1].flatMap((index) => [buckets.rules, buckets.registry].map((each) => `${index} ${each} ${key}`));
  const write = async (key: string): Promise<void> => {
    for (const each of [buckets.rules, buckets.registry])
      await (await controller.bucket(each)).put(key, Buffer.from('v'));
    await seen.until(`all see ${key}`, (keys) => all(key).every((line) => keys.includes(line)));
  };
  await write('first');
  const { port } = nats.server;
  await nats.server.stop();
  await nats.startServer(port);
  const again = new Inbox<string>();
  controller.onStatus(again.push);
  if (controller.status !== 'connected') await again.until('the controller', (items) => items.includes('connected'));
  await write('second');
  stop.abort();
});

test('a credential with the longest name of a node connects', async () => {
  const label = 'a'.repeat(60);
  const node = nodeNamed([label, label, label, label].join('.'));
  const bus = await nats.agent(node);
  assert.deepEqual(await (await bus.bucket(buckets.rules)).get('absent'), undefined);
  const user = createUser();
  const { account } = nats.server;
  const permissions = agentPermissions(node);
  const jwt = mintUserJwt({ account, userPublicKey: user.publicKey, name: node, permissions, expiresAtMs: Date.now() });
  assert.ok(jwt.length < 3700, `${jwt.length} of 4096 bytes, which have to hold more than this`);
});
