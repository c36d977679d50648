import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { agentPermissions } from '../../../../controller/nats/agent-permissions.js';
import { connectBus } from '../../../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt } from '../../../../shared/bus/nats-accounts.js';
import { buckets, inboxPrefixFor, subjectFor } from '../../../../shared/bus/subjects.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { Inbox, within } from '../../../support/bus/bus-deadline.js';
import { NatsFixture, serverName, settled } from '../../../support/bus/bus-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { timeoutSignal } from '../../../../shared/timeout-signal.js';

const settings = { history: 1, maxBytes: -1, replicas: 1 } as const;

test('compare-and-set, create and delete of a bucket tell a lost race from a success', async () => {
  await using nats = await NatsFixture.start();
  const bucket = await (await nats.controller()).bucket(buckets.rules, { create: settings });
  const first = await bucket.create('current', Buffer.from('a'));
  await assert.rejects(bucket.create('current', Buffer.from('b')), { code: 'BUS_CONFLICT' });
  const second = await bucket.update('current', Buffer.from('b'), first);
  await assert.rejects(bucket.update('current', Buffer.from('c'), first), { code: 'BUS_CONFLICT' });
  assert.deepEqual((await bucket.get('current'))?.revision, second);
  await bucket.delete('current');
  await bucket.delete('never.there');
  assert.equal(await bucket.get('current'), undefined);
  assert.deepEqual(await bucket.keys(), []);
  await bucket.create('current', Buffer.from('d'));
  assert.equal(Buffer.from((await bucket.entries())[0]?.value ?? []).toString(), 'd');
});

test('compacting removes the markers of deleted keys and nothing else', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const bucket = await controller.bucket(buckets.registry, { create: settings });
  for (const key of ['a', 'b', 'c']) await bucket.put(key, Buffer.from(key));
  await bucket.delete('a');
  await bucket.delete('b');
  await bucket.put('b', Buffer.from('again'));
  assert.equal(await bucket.compact({ olderThanMs: 60_000 }), 0);
  assert.equal(await bucket.compact({ olderThanMs: 0 }), 1);
  assert.deepEqual((await bucket.keys()).sort(), ['b', 'c']);
  const info = await controller.request('$JS.API.STREAM.INFO.KV_culvert_registry', new Uint8Array(), {
    timeoutMs: 5000,
  });
  assert.equal((JSON.parse(Buffer.from(info).toString()) as { state: { messages: number } }).state.messages, 2);
});

test('creating a bucket twice brings it to the later settings, and a full one refuses writes with a hint', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  await controller.bucket(buckets.config, { create: settings });
  const bucket = await controller.bucket(buckets.config, { create: { ...settings, maxBytes: 4096 } });
  await bucket.put('small', Buffer.alloc(100));
  await assert.rejects(bucket.put('large', Buffer.alloc(8192)), { code: 'BUS_STORE_FULL', hint: /disk space/ });
});

test('a request without a responder, beyond its timeout or aborted fails with its own error', async () => {
  await using nats = await NatsFixture.start();
  const agent = await nats.agent('node1');
  const subject = subjectFor('sign', nodeNamed('node1'));
  await assert.rejects(agent.request(subject, Buffer.of(), { timeoutMs: 5000 }), { code: 'BUS_NO_RESPONDERS' });
  const controller = await nats.controller();
  const errors = new Inbox<unknown>();
  controller.serve('culvert.v1.sign.*', () => Promise.reject(new Error('cannot sign')), errors.push);
  await settled(controller);
  await assert.rejects(agent.request(subject, Buffer.of(), { timeoutMs: 300 }), { code: 'BUS_TIMEOUT' });
  assert.match(String(errors.items[0]), /cannot sign/);
  const stop = new AbortController();
  const waiting = agent.request(subject, Buffer.of(), { timeoutMs: 10_000, signal: stop.signal });
  stop.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});

test('a payload beyond what the server takes is refused before it is sent', async () => {
  await using nats = await NatsFixture.start();
  const bucket = await (await nats.controller()).bucket(buckets.rules, { create: settings });
  await bucket.put('snapshot.1', Buffer.alloc(7_900_000));
  await assert.rejects(bucket.put('snapshot.2', Buffer.alloc(8_400_000)), { code: 'BUS_PAYLOAD_TOO_LARGE' });
});

test('connecting waits for a server that is not there yet, and gives up with the signal', async () => {
  await using nats = await NatsFixture.start();
  const { port } = nats.server;
  await nats.server.stop();
  const problems = new Inbox<unknown>();
  const connecting = nats.agent('node1', { onProblem: problems.push });
  await problems.until('a failed attempt', (items) => items.length >= 2);
  assert.equal((problems.items[0] as { code?: string }).code, 'BUS_DISCONNECTED');
  await nats.startServer(port);
  const bus = await within('the connection', connecting, 20_000);
  assert.equal(bus.status, 'connected');
});

test('a server that accepts and says nothing does not hold up the signal', async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => {
    silent.listen(0, '127.0.0.1', resolve);
  });
  const { port } = silent.address() as AddressInfo;
  const signal = timeoutSignal(300);
  const connecting = connectBus({
    servers: [`127.0.0.1:${port}`],
    tls: null,
    auth: { kind: 'none' },
    name: 'x',
    inboxPrefix: '_INBOX_x',
    signal,
  });
  await assert.rejects(within('the end', connecting, 8000), { name: 'TimeoutError' });
  for (const socket of sockets) socket.destroy();
  silent.close();
});

test('while the server is away nothing is queued: publishing says so and requests fail at once', async () => {
  await using nats = await NatsFixture.start();
  const agent = await nats.agent('node1');
  const bucket = await agent.bucket(buckets.rules);
  const statuses = new Inbox<string>();
  agent.onStatus(statuses.push);
  const { port } = nats.server;
  await nats.server.stop();
  await statuses.until('the loss', (items) => items.includes('disconnected'));
  assert.equal(agent.publish(subjectFor('status', nodeNamed('node1')), Buffer.of()), false);
  await assert.rejects(agent.request(subjectFor('sign', nodeNamed('node1')), Buffer.of(), { timeoutMs: 5000 }), {
    code: 'BUS_DISCONNECTED',
  });
  await assert.rejects(bucket.get('current'), { code: 'BUS_DISCONNECTED' });
  await nats.startServer(port);
  await statuses.until('the return', (items) => items.at(-1) === 'connected', 20_000);
  assert.equal(agent.publish(subjectFor('status', nodeNamed('node1')), Buffer.of()), true);
});

test('what was asked when the server died fails at once, not at its timeout', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const bucket = await controller.bucket(buckets.rules, { create: settings });
  const pid = nats.server.pid ?? assert.fail();
  // A stopped server takes the bytes and answers nothing.
  process.kill(pid, 'SIGSTOP');
  const asked = [
    bucket.put('current', Buffer.from('1')),
    bucket.get('current'),
    controller.request(subjectFor('sign', nodeNamed('node1')), Buffer.of(), { timeoutMs: 60_000 }),
    controller.store(subjectFor('flows', nodeNamed('node1')), Buffer.of(), { timeoutMs: 60_000 }),
  ];
  const outcomes = Promise.allSettled(asked);
  process.kill(pid, 'SIGKILL');
  for (const outcome of await within('the refusals', outcomes, 20_000)) {
    assert.equal(outcome.status, 'rejected');
    const { code, message } = outcome.reason as { code: string; message: string };
    assert.equal(code, 'BUS_DISCONNECTED');
    assert.match(message, /lost before the answer arrived/);
  }
});

test('a server with a certificate of another CA, or for another name, is not talked to', async () => {
  await using nats = await NatsFixture.start();
  const stranger = await createRootCa({ trustDomain: 'mesh.test' });
  const cases = [{ caPem: stranger.rootPem }, { caPem: nats.ca.root.rootPem, servername: 'other.test' }];
  for (const tls of cases) {
    const problems = new Inbox<unknown>();
    const stop = new AbortController();
    const connecting = nats.agent('node1', { tls, onProblem: problems.push, signal: stop.signal });
    await problems.until('a problem', (items) => items.length > 0);
    stop.abort();
    await assert.rejects(within('the end', connecting), { name: 'AbortError' });
    assert.match(String(problems.items[0]), /self-signed|unable to verify|unable to get|issuer certificate|altnames/);
  }
  const bus = await nats.agent('node1', { tls: { caPem: nats.ca.root.rootPem, servername: serverName } });
  assert.equal(bus.status, 'connected');
});

test('an expired credential drops the connection, and the renewed one is used for the next', async () => {
  await using nats = await NatsFixture.start();
  const user = createUser();
  const mint = (lifetimeMs: number): string =>
    mintUserJwt({
      account: nats.server.account,
      userPublicKey: user.publicKey,
      name: 'node1',
      permissions: agentPermissions(nodeNamed('node1')),
      expiresAtMs: Date.now() + lifetimeMs,
    });
  let jwt = mint(3000);
  const statuses = new Inbox<string>();
  const bus = await nats.agent('node1', {
    inboxPrefix: inboxPrefixFor(nodeNamed('node1')),
    auth: { kind: 'jwt', jwt: () => jwt, seed: user.seed },
  });
  bus.onStatus(statuses.push);
  await statuses.until('the expiry', (items) => items.includes('disconnected'), 15_000);
  jwt = mint(60_000);
  await statuses.until('the return', (items) => items.at(-1) === 'connected', 20_000);
});
