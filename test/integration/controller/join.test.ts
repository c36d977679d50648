import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { createUser } from '../../../shared/bus/nats-accounts.js';
import { buckets, consumerPrefixFor, inboxPrefixFor, subjectFor } from '../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { certificateHash } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { spiffeIdOf } from '../../../shared/pki/spiffe-id-of-certificate.js';
import {
  newestStatementKey,
  openNewestStatement,
  type NewestStatement,
} from '../../../shared/wire/newest-statement.js';
import { encodeWire, renewResponseSchema, signResponseSchema, type Heartbeat } from '../../../shared/wire/requests.js';
import type { NodeKey } from '../../../shared/wire/sealed-request.js';
import type { StatusAnswer, TokenItem } from '../../../controller/api/api-types.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
  type Answer,
} from '../../support/controller/controller-fixture.js';
import { ask, join, joinedBus, newToken } from '../../support/controller/joined-agent.js';
import { nodeNamed } from '../../support/routing/names.js';

function codeOf(answer: Answer): string {
  return (answer.body as { code: string }).code;
}

async function metric(controller: RunningController, line: string): Promise<number> {
  const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `));
  return Number(found?.slice(line.length + 1) ?? 0);
}

test('of 20 joins with one token at the same time exactly one succeeds', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const token = await newToken(controller, 'host-a');
  const answers = await Promise.all(Array.from({ length: 20 }, () => join(controller, token, 'host-a')));
  assert.equal(answers.filter((answer) => answer.status === 200).length, 1);
  const refused = answers.filter((answer) => answer.status !== 200).map(codeOf);
  assert.equal(refused.length, 19);
  // Ten failures from one address are answered with their reason, those after them with the limit.
  assert.ok(
    refused.every((code) => code === 'TOKEN_USED' || code === 'TOO_MANY_FAILURES'),
    String(refused),
  );
  assert.ok(refused.includes('TOKEN_USED'));
  assert.equal(await metric(controller, 'culvert_controller_joins_total'), 1);
});

test('a token of another node, an unknown, a changed and a malformed one are refused with their reasons', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const token = await newToken(controller, 'host-a');
  const [, id = '', secret = '', hash = ''] = token.split('.');
  assert.equal(hash, certificateHash(controller.caPem));
  const cases = [
    [token, 'host-b', 'TOKEN_WRONG_NODE'],
    [`culvert1.${'0'.repeat(12)}.${secret}.${hash}`, 'host-a', 'TOKEN_UNKNOWN'],
    [`culvert1.${id}.${'0'.repeat(48)}.${hash}`, 'host-a', 'TOKEN_UNKNOWN'],
    ['nonsense', 'host-a', 'TOKEN_MALFORMED'],
  ] as const;
  for (const [text, node, code] of cases) {
    const answer = await join(controller, text, node);
    assert.deepEqual([answer.status, codeOf(answer)], [401, code]);
    assert.ok((answer.body as { hint: string }).hint.includes('token'), answer.text);
    assert.equal((await metric(controller, `culvert_controller_refused_joins_total{reason="${code}"}`)) > 0, true);
  }
  assert.equal((await join(controller, token, 'host-a')).status, 200, 'the refusals did not use the token up');
});

test('a join whose answer was lost is repeated with the same keys, and with no others', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const token = await newToken(controller, 'host-a');
  const user = createUser();
  const request = await createCsr({ commonName: 'host-a' });
  for (let count = 0; count < 2; count++) {
    assert.equal((await join(controller, token, 'host-a', user, request)).status, 200);
  }
  assert.equal(codeOf(await join(controller, token, 'host-a', user)), 'TOKEN_USED', 'another key of the node');
  assert.equal(codeOf(await join(controller, token, 'host-a', createUser(), request)), 'TOKEN_USED', 'another user');
});

test('tokens are listed without their secrets, and a revoked one is refused', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const [used, revoked] = [await newToken(controller, 'host-a'), await newToken(controller, 'host-b')];
  assert.equal((await join(controller, used, 'host-a')).status, 200);
  const idOf = (token: string): string => token.split('.')[1] ?? '';
  assert.equal((await callApi(controller, 'DELETE', `/v1/tokens/${idOf(revoked)}`)).status, 200);
  assert.equal((await callApi(controller, 'DELETE', '/v1/tokens/unknown')).status, 404);
  assert.equal(codeOf(await join(controller, revoked, 'host-b')), 'TOKEN_REVOKED');
  const { body, text } = await callApi(controller, 'GET', '/v1/tokens');
  const states = new Map((body as TokenItem[]).map(({ id, node, state }) => [id, `${node} ${state}`]));
  assert.equal(states.get(idOf(used)), 'host-a used');
  assert.equal(states.get(idOf(revoked)), 'host-b revoked');
  for (const token of [used, revoked]) assert.ok(!text.includes(token.split('.')[2] ?? ''));
});

test('an expired token is refused', async () => {
  await using directory = await temporaryDirectory();
  let offsetMs = 0;
  await using controller = await startedController(directory.path, { nowMs: () => Date.now() + offsetMs });
  const token = await newToken(controller, 'host-a', 60_000);
  offsetMs = 61_000;
  assert.equal(codeOf(await join(controller, token, 'host-a')), 'TOKEN_EXPIRED');
});

test('after ten bad tokens an address has to wait', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const token = await newToken(controller, 'host-a');
  for (let count = 0; count < 10; count++)
    assert.equal(codeOf(await join(controller, 'bad', 'host-a')), 'TOKEN_MALFORMED');
  const limited = await join(controller, token, 'host-a');
  assert.deepEqual([limited.status, codeOf(limited)], [429, 'TOO_MANY_FAILURES']);
});

test('a used token stays used after a restart, and its secret is nowhere on disk', async () => {
  await using directory = await temporaryDirectory();
  let token: string;
  {
    await using controller = await startedController(directory.path);
    token = await newToken(controller, 'host-a');
    assert.equal((await join(controller, token, 'host-a')).status, 200);
  }
  const { readFile } = await import('node:fs/promises');
  const stored = await readFile(path.join(directory.path, 'tokens.json'), 'utf8');
  assert.ok(!stored.includes(token.split('.')[2] ?? ''));
  await using controller = await startedController(directory.path);
  assert.equal(codeOf(await join(controller, token, 'host-a')), 'TOKEN_USED');
});

test('a request that cannot succeed does not use the token up', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const token = await newToken(controller, 'host-a');
  const body = {
    token,
    node: 'host-a',
    csrPem: '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n',
    natsUserPublicKey: createUser().publicKey,
    version: 'test',
  };
  const answer = await callApi(controller, 'POST', '/v1/join', { body, token: null });
  assert.deepEqual([answer.status, codeOf(answer)], [400, 'CSR_INVALID']);
  assert.equal((await join(controller, token, 'host-a')).status, 200);
});

test('an identity is signed only for the node on which it is registered', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const applied = await apply(
    controller,
    documents(
      workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-a' }),
      workloadDocument('billing', 'db', { ip: '198.18.2.1', node: 'host-b' }),
    ),
  );
  assert.equal(applied.status, 200, applied.text);
  await using agent = await joinedBus(controller, 'host-a');
  const own = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: 'api' });
  const foreign = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: 'db' });
  const elsewhere = formatSpiffeId({ trustDomain: 'other.mesh', namespace: 'billing', serviceAccount: 'api' });
  const requests = await Promise.all(
    // The last asks in its CSR for more than it names: the CA decides what is in the certificate.
    [own, foreign, elsewhere].map(async (identity) => ({
      identity,
      csrPem: (await createCsr({ identity: identity === own ? foreign : identity })).csrPem,
    })),
  );
  const subject = subjectFor('sign', nodeNamed('host-a'));
  const { certificates, rootsPem } = await ask(agent, subject, { requests }, signResponseSchema);
  assert.equal(rootsPem, controller.caPem);
  const [signed, refusedForeign, refusedElsewhere] = certificates;
  assert.ok(signed !== undefined && 'chainPem' in signed, JSON.stringify(signed));
  const [leaf, issuing] = splitCertificates(signed.chainPem).map((pem) => new X509Certificate(pem));
  assert.ok(leaf !== undefined && issuing !== undefined);
  assert.equal(spiffeIdOf(leaf.raw), own);
  assert.ok(leaf.verify(issuing.publicKey));
  assert.ok(issuing.verify(new X509Certificate(rootsPem).publicKey));
  assert.ok(refusedForeign !== undefined && 'error' in refusedForeign);
  assert.equal(refusedForeign.error.code, 'IDENTITY_NOT_ON_NODE');
  assert.ok(refusedElsewhere !== undefined && 'error' in refusedElsewhere);
  assert.equal(refusedElsewhere.error.code, 'TRUST_DOMAIN');
  const refusals = 'culvert_controller_refused_certificates_total{reason="IDENTITY_NOT_ON_NODE"}';
  assert.equal(await metric(controller, refusals), 1);
  assert.equal(await metric(controller, 'culvert_controller_certificates_signed_total'), 1);

  // In the name of the other node, where the identity would be right: NATS does not let it through.
  const inOthersName = agent.bus.request(subjectFor('sign', nodeNamed('host-b')), encodeWire({ requests }), {
    timeoutMs: 1000,
  });
  await assert.rejects(inOthersName);
  const refused = await eventually('the refusal is counted', async () => {
    const count = await metric(controller, 'culvert_controller_nats_refused_total{operation="publish"}');
    return count > 0 ? count : undefined;
  });
  assert.ok(refused >= 1);
});

test('a node renews its certificate and its credential, and the new credential works', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await using agent = await joinedBus(controller, 'rack-1.example');
  const { csrPem } = await createCsr({ commonName: 'rack-1.example' });
  const body = { csrPem, natsUserPublicKey: agent.user.publicKey };
  const renewed = await ask(agent, subjectFor('renew', nodeNamed('rack-1.example')), body, renewResponseSchema);
  const certificate = new X509Certificate(renewed.nodeCertificatePem);
  assert.equal(certificate.subjectAltName, 'URI:spiffe://culvert.local/culvert/node/rack-1.example');
  assert.ok(renewed.notAfterMs > Date.now() + 6 * 86_400_000);
  await using bus = await connectBus({
    servers: agent.joined.natsServers,
    tls: { caPem: renewed.rootsPem, servername: agent.joined.natsServerName ?? '' },
    auth: { kind: 'jwt', jwt: renewed.natsJwt, seed: agent.user.seed },
    name: 'renewed',
    inboxPrefix: inboxPrefixFor(nodeNamed('rack-1.example')),
    signal: new AbortController().signal,
  });
  assert.equal(bus.status, 'connected');
});

test('a node that named its consumers gets no credential for other names until it joins again', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const node = nodeNamed('host-a');
  // Agents of the version before do not say that they can.
  await using agent = await joinedBus(controller, node);
  const { csrPem } = await createCsr({ commonName: node });
  const renew = async (body: object): Promise<{ prefix: string | undefined; mayMakeAny: boolean }> => {
    const wanted = { csrPem, natsUserPublicKey: agent.user.publicKey, ...body };
    const { natsJwt, consumerPrefix } = await ask(agent, subjectFor('renew', node), wanted, renewResponseSchema);
    const claims = Buffer.from(natsJwt.split('.')[1] ?? '', 'base64url').toString();
    return { prefix: consumerPrefix, mayMakeAny: claims.includes('CONSUMER.CREATE.KV_culvert_rules.*') };
  };
  const [any, own] = [
    { prefix: undefined, mayMakeAny: true },
    { prefix: consumerPrefixFor(node), mayMakeAny: false },
  ];
  assert.deepEqual(await renew({}), any);
  assert.deepEqual(await renew({ namesConsumers: true }), own);
  assert.deepEqual(await renew({}), own, 'who holds its key gets no more by asking as an earlier version');
  await using other = await joinedBus(controller, node);
  assert.equal(other.joined.consumerPrefix, undefined);
  assert.deepEqual(await renew({}), any, 'its operator has put an earlier version there');
});

test('a stolen NATS credential without the node key yields neither certificates nor credentials', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const placed = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-a' }));
  assert.equal((await apply(controller, placed)).status, 200);
  await using agent = await joinedBus(controller, 'host-a');
  await using other = await joinedBus(controller, 'host-b');
  const identity = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: 'api' });
  const { csrPem, privateKeyPem } = await createCsr({ identity });
  const own = agent.nodeKey;
  const keys: [what: string, nodeKey: NodeKey][] = [
    ['a key of his own', { ...own, nodeKeyPem: privateKeyPem }],
    ['the key and the certificate of another node', other.nodeKey],
    ['no certificate', { ...own, nodeCertificatePem: 'none' }],
  ];
  for (const [what, nodeKey] of keys) {
    const intruder = { ...agent, nodeKey };
    const sign = ask(
      intruder,
      subjectFor('sign', nodeNamed('host-a')),
      { requests: [{ identity, csrPem }] },
      signResponseSchema,
    );
    await assert.rejects(sign, { code: 'REQUEST_UNPROVEN' }, what);
    const wanted = { csrPem, natsUserPublicKey: createUser().publicKey };
    const renew = ask(intruder, subjectFor('renew', nodeNamed('host-a')), wanted, renewResponseSchema);
    await assert.rejects(renew, { code: 'REQUEST_UNPROVEN' }, what);
  }
  assert.equal(await metric(controller, 'culvert_controller_bad_agent_requests_total{verb="sign"}'), keys.length);
  assert.equal(await metric(controller, 'culvert_controller_certificates_signed_total'), 0);
  const honest = ask(
    agent,
    subjectFor('sign', nodeNamed('host-a')),
    { requests: [{ identity, csrPem }] },
    signResponseSchema,
  );
  assert.ok('chainPem' in ((await honest).certificates[0] ?? {}));
});

test('a malformed request over NATS gets a signed error that says so', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await using agent = await joinedBus(controller, 'host-a');
  const answer = ask(agent, subjectFor('sign', nodeNamed('host-a')), { requests: 'all' }, signResponseSchema);
  await assert.rejects(answer, { code: 'WIRE_INVALID' });
});

test('heartbeats show revision, lag and clock, and survive a restart of the controller', async () => {
  await using directory = await temporaryDirectory();
  const heartbeat = (revision: number): Heartbeat => ({
    node: nodeNamed('host-a'),
    version: '9.9.9',
    appliedRevision: revision,
    enforcedByAllWorkers: true,
    registrySequence: null,
    nowMs: Date.now() + 120_000,
    startedAtMs: Date.now(),
    workloads: [{ name: 'billing/api', captured: true, certificateNotAfterMs: 123, problem: null }],
    pending: [],
  });
  const rule = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'open' },
    spec: { tier: 'team', action: 'allow', from: [{ namespace: 'billing' }] },
  });
  const statusOf = async (controller: RunningController, state: string) =>
    eventually(`host-a is ${state}`, async () => {
      const { body } = await callApi(controller, 'GET', '/v1/status');
      return (body as StatusAnswer).agents.find((agent) => agent.node === 'host-a' && agent.state === state);
    });
  {
    await using controller = await startedController(directory.path);
    await using agent = await joinedBus(controller, 'host-a');
    await statusOf(controller, 'joined');
    agent.bus.publish(subjectFor('status', nodeNamed('host-a')), encodeWire(heartbeat(1)));
    const ready = await statusOf(controller, 'ready');
    assert.equal(ready.isClockWrong, true);
    assert.ok(Math.abs((ready.clockSkewMs ?? 0) - 120_000) < 5000);
    assert.equal(ready.nextCertificateExpiryMs, 123);
    await apply(controller, rule);
    const behind = await statusOf(controller, 'behind');
    assert.equal(behind.revisionLag, 1);
    agent.bus.publish(subjectFor('status', nodeNamed('host-a')), encodeWire({ ...heartbeat(2), node: 'host-b' }));
    await eventually('a heartbeat in the name of another is counted', async () => {
      const count = await metric(controller, 'culvert_controller_bad_agent_requests_total{verb="status"}');
      return count === 1 ? count : undefined;
    });
  }
  await using controller = await startedController(directory.path, { changes: { agentStaleAfter: 1000 } });
  const stale = await statusOf(controller, 'stale');
  assert.equal(stale.heartbeat?.version, '9.9.9');
});

test('a join and the bucket of the rules say what is the newest, signed and with the time, again after a change', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const before = Date.now();
  assert.equal(
    (await apply(controller, workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }))).status,
    200,
  );
  await using agent = await joinedBus(controller, 'host-a');
  const open = (bytes: Uint8Array): NewestStatement =>
    openNewestStatement({ bytes, publicKeysPem: agent.joined.signingPublicKeys });
  const atJoin = open(Buffer.from(agent.joined.newest ?? '', 'base64'));
  const { revision, registrySequence } = await controller.store.newest();
  assert.deepEqual(atJoin, { atMs: atJoin.atMs, revision, registrySequence });
  assert.ok(atJoin.atMs >= before && atJoin.atMs <= Date.now() && registrySequence > 0);
  const bucket = await agent.bus.bucket(buckets.rules);
  const rule = { tier: 'team', action: 'allow', from: [{ namespace: 'shop' }], to: [{ namespace: 'shop' }] };
  assert.equal((await apply(controller, ruleDocument('open', rule))).status, 200);
  await eventually('the statement of the change', async () => {
    const entry = await bucket.get(newestStatementKey);
    return entry !== undefined && open(entry.value).revision === revision + 1 ? true : undefined;
  });
});
