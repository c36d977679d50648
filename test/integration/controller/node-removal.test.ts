import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type {
  FlowsAnswer,
  NodeRemovedAnswer,
  RolloutAnswer,
  StatusAnswer,
  WhyAnswer,
} from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { createUser } from '../../../shared/bus/nats-accounts.js';
import { buckets, inboxPrefixFor, subjectFor } from '../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import {
  decodeWire,
  encodeWire,
  joinResponseSchema,
  renewResponseSchema,
  signResponseSchema,
  type Heartbeat,
} from '../../../shared/wire/requests.js';
import { openRegistryEntry } from '../../../shared/wire/signed.js';
import { openAnswer } from '../../../shared/wire/sealed-answer.js';
import {
  encodeRecentFlows,
  recentAnswerSchema,
  recentEveryMs,
  type RecentAnswer,
} from '../../../shared/wire/recent-flows.js';
import { encodeFlowBatch } from '../../../shared/wire/flow-batch.js';
import { Inbox } from '../../support/bus/bus-deadline.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { ask, join, joinedBus, newToken, type Joined } from '../../support/controller/joined-agent.js';
import { operatorsNats } from '../../support/controller/operators-nats.js';
import { nodeNamed } from '../../support/routing/names.js';

const identity = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: 'api' });

async function remove(controller: RunningController, node: string): Promise<NodeRemovedAnswer> {
  const answer = await callApi(controller, 'DELETE', `/v1/nodes/${node}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.body as NodeRemovedAnswer;
}

async function nodesOf(controller: RunningController): Promise<string[]> {
  const { body } = await callApi(controller, 'GET', '/v1/status');
  const rollout = await callApi(controller, 'GET', '/v1/rollout');
  const nodes = (body as StatusAnswer).agents.map(({ node }) => node as string);
  assert.deepEqual(
    (rollout.body as RolloutAnswer).agents.map(({ node }) => node),
    nodes,
  );
  return nodes;
}

/** Whether NATS lets a node in with the credential that it got when it joined. */
async function isLetIn({ joined, user }: Joined, node: string): Promise<boolean> {
  const stop = new AbortController();
  const problems = new Inbox<unknown>();
  const connecting = connectBus({
    servers: joined.natsServers,
    tls: { caPem: joined.rootsPem, servername: joined.natsServerName ?? '' },
    auth: { kind: 'jwt', jwt: joined.natsJwt, seed: user.seed },
    name: node,
    inboxPrefix: inboxPrefixFor(nodeNamed(node)),
    signal: stop.signal,
    onProblem: problems.push,
  });
  const outcome = await Promise.race([
    connecting.then(() => true),
    problems.until('a refusal', (seen) => seen.length > 0).then(() => false),
  ]);
  stop.abort();
  await connecting.then((bus) => bus.close()).catch(() => undefined);
  return outcome;
}

/** The identity of billing/api as another agent reads it, once it matches. */
async function seenIdentity({ bus, joined }: Joined, wanted: RegExp): Promise<string> {
  const bucket = await bus.bucket(buckets.registry);
  const key = 'workload.billing.api';
  return eventually(`the identity is ${wanted}`, async () => {
    const bytes = (await bucket.get(key))?.value;
    if (bytes === undefined) return undefined;
    const { entry } = openRegistryEntry({ bytes, key, publicKeysPem: joined.signingPublicKeys });
    return entry.kind === 'workload' && wanted.test(entry.identity) ? entry.identity : undefined;
  });
}

async function signed(agent: Joined, node: string): Promise<boolean> {
  const { csrPem } = await createCsr({ identity });
  const { certificates } = await ask(
    agent,
    subjectFor('sign', nodeNamed(node)),
    { requests: [{ identity, csrPem }] },
    signResponseSchema,
  );
  return certificates.some((certificate) => 'chainPem' in certificate);
}

function heartbeat(node: string): Heartbeat {
  return {
    node: nodeNamed(node),
    version: 'test',
    appliedRevision: 0,
    enforcedByAllWorkers: true,
    registrySequence: 0,
    nowMs: Date.now(),
    startedAtMs: Date.now(),
    workloads: [],
    pending: [],
  };
}

async function reportRecent(agent: Joined, node: string): Promise<RecentAnswer> {
  const report = encodeRecentFlows({ run: 'a'.repeat(16), after: 0, sentAtMs: Date.now(), flows: [] });
  const asked = { subject: subjectFor('recent', nodeNamed(node)), request: report };
  const bytes = await agent.bus.request(asked.subject, asked.request, { timeoutMs: 5000 });
  return decodeWire(recentAnswerSchema, openAnswer({ asked, bytes, publicKeysPem: agent.joined.signingPublicKeys }));
}

test('a node that was removed is out of NATS, gets nothing signed, and is gone from status and rollout for good', async () => {
  await using directory = await temporaryDirectory();
  let removed: Joined;
  {
    await using controller = await startedController(directory.path);
    const placed = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-a' }));
    assert.equal((await apply(controller, placed)).status, 200);
    await using agent = await joinedBus(controller, 'host-a');
    await using other = await joinedBus(controller, 'host-b');
    removed = agent;
    agent.bus.publish(subjectFor('status', nodeNamed('host-a')), encodeWire(heartbeat('host-a')));
    assert.ok(await signed(agent, 'host-a'));
    const statuses = new Inbox<string>();
    const ofOthers = new Inbox<string>();
    agent.bus.onStatus(statuses.push);
    other.bus.onStatus(ofOthers.push);
    const unused = await newToken(controller, 'host-a');

    const answer = await remove(controller, 'host-a');
    assert.deepEqual(answer, {
      node: 'host-a',
      nats: { kind: 'revoked' },
      tokensRevoked: 1,
      identities: 'withdrawn',
      workloads: ['billing/api'],
    });
    await statuses.until('its connection has ended', (seen) => seen.includes('disconnected'));
    assert.match(
      await seenIdentity(other, /removed-node/),
      /^spiffe:\/\/removed-node\.culvert\.invalid\/ns\/billing\/sa\/api$/,
    );
    const why = await callApi(controller, 'GET', '/v1/why?source=billing/api&destination=203.0.113.1&port=80');
    assert.match((why.body as WhyAnswer).notes.join(), /The node of billing\/api, host-a, was removed/);
    assert.equal(await isLetIn(agent, 'host-a'), false);
    assert.equal((await join(controller, unused, 'host-a')).status, 401);
    assert.deepEqual(await nodesOf(controller), ['host-b']);
    assert.deepEqual([other.bus.status, ofOthers.items], ['connected', []], 'no other node noticed');
    assert.equal((await callApi(controller, 'DELETE', '/v1/nodes/host-x')).status, 404);
  }
  await using controller = await startedController(directory.path);
  assert.equal(await isLetIn(removed, 'host-a'), false, 'also after a restart');
  assert.deepEqual(await nodesOf(controller), ['host-b']);
});

test('a node that joins again is a member, and what it held before its removal stays worthless', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const placed = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-a' }));
  assert.equal((await apply(controller, placed)).status, 200);
  await using before = await joinedBus(controller, 'host-a');
  await remove(controller, 'host-a');
  await using again = await joinedBus(controller, 'host-a');
  assert.ok(await signed(again, 'host-a'));
  await seenIdentity(again, /culvert\.local/);
  await eventually('it is listed', async () => ((await nodesOf(controller)).includes('host-a') ? true : undefined));

  // The old key and certificate, over the connection of the new ones.
  const stale = { ...again, nodeKey: before.nodeKey };
  await assert.rejects(signed(stale, 'host-a'), { code: 'NODE_REMOVED', hint: /join the host again/ });
  const { csrPem } = await createCsr({ commonName: 'host-a' });
  const renewal = { csrPem, natsUserPublicKey: again.user.publicKey };
  const subject = subjectFor('renew', nodeNamed('host-a'));
  await assert.rejects(ask(stale, subject, renewal, renewResponseSchema), { code: 'NODE_REMOVED' });
  assert.equal(await isLetIn(before, 'host-a'), false);

  await ask(again, subject, renewal, renewResponseSchema);
  assert.ok(await signed(again, 'host-a'), 'the certificate from before the renewal still proves it');
});

test("on the operator's NATS, recent flows of a member are answered, and those of a node that was removed are refused", async () => {
  await using directory = await temporaryDirectory();
  await using operator = await operatorsNats();
  await using controller = await startedController(directory.path, { changes: operator.changes });
  await using agent = await joinedBus(controller, 'host-a');
  await using other = await joinedBus(controller, 'host-b');
  assert.equal((await reportRecent(agent, 'host-a')).everyMs, recentEveryMs.most);

  await remove(controller, 'host-a');
  await assert.rejects(reportRecent(agent, 'host-a'), { code: 'NODE_REMOVED', hint: /join the host again/ });
  assert.equal((await reportRecent(other, 'host-b')).everyMs, recentEveryMs.most);

  const batch = { run: 'a'.repeat(16), sequence: 1, sentAtMs: Date.now(), notKept: 7, flows: [] };
  for (const [node, { bus }] of [['host-a', agent] as const, ['host-b', other] as const]) {
    await bus.store(subjectFor('flows', nodeNamed(node)), encodeFlowBatch(batch), { timeoutMs: 5000 });
  }
  const notKept = async () => ((await callApi(controller, 'GET', '/v1/flows')).body as FlowsAnswer).notKept;
  await eventually('the batch of the member is read', async () => ((await notKept()) > 0 ? true : undefined));
  assert.equal(await notKept(), 7, 'and not that of the node that was removed');
});

test('a renewal or a join that is under way during a removal leaves no member behind', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  for (let round = 0; round < 8; round++) {
    const node = `host-${round}`;
    await using agent = await joinedBus(controller, node);
    const token = await newToken(controller, node);
    const user = createUser();
    const { csrPem } = await createCsr({ commonName: node });
    const renewing = ask(
      agent,
      subjectFor('renew', nodeNamed(node)),
      { csrPem, natsUserPublicKey: agent.user.publicKey },
      renewResponseSchema,
    ).catch(() => undefined);
    const joining = join(controller, token, node, user);
    await delay(round * 2);
    await remove(controller, node);
    const renewed = await renewing;
    const answer = await joining;
    const late: Joined[] = [];
    if (renewed !== undefined) late.push({ ...agent, joined: { ...agent.joined, natsJwt: renewed.natsJwt } });
    if (answer.status === 200) late.push({ ...agent, joined: joinResponseSchema.parse(answer.body), user });
    for (const each of late) assert.equal(await isLetIn(each, node), false, `round ${round}`);
    assert.deepEqual(await nodesOf(controller), []);
    assert.equal((await callApi(controller, 'DELETE', `/v1/nodes/${node}`)).status, 404);
  }
});
