import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ExternalIssuer, Wanted } from '../../../../../controller/ca/issuer/external-issuer.js';
import { openIssuer } from '../../../../../controller/ca/issuer/open-issuer.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { temporaryDirectory } from '../../../../support/controller/controller-fixture.js';
import { hostA, kubernetesSettings, openCa, trustDomain, web } from '../../../../support/issuer/external-mesh.js';
import { FakeKubernetes } from '../../../../support/issuer/fake-kubernetes.js';
import { timeoutSignal } from '../../../../../shared/timeout-signal.js';

let cluster: FakeKubernetes;
let issuer: ExternalIssuer;
let nowMs = Date.now();
before(async () => {
  cluster = await FakeKubernetes.start(trustDomain);
  const opened = openIssuer(await kubernetesSettings(cluster, '/nowhere'), { trustDomain, nowMs: () => nowMs });
  assert.ok(opened !== null);
  issuer = opened;
});
after(async () => {
  issuer.close();
  await cluster[Symbol.asyncDispose]();
});

const signal = new AbortController().signal;

async function wanted(): Promise<Wanted> {
  const { csrPem } = await createCsr({ identity: web });
  return { kind: 'workload', csrPem, uris: [web], dnsNames: [], ipAddresses: [], ttlMs: 3_600_000 };
}

test('a request names its usages and lifetime, is looked at until it is signed, and is deleted', async () => {
  cluster.looksUntilSigned = 3;
  const certificates = await issuer.sign(await wanted(), signal);
  assert.match(certificates, /BEGIN CERTIFICATE/);
  const [created] = cluster.server.heard.filter(({ method }) => method === 'POST');
  const { spec, metadata } = (created?.body ?? assert.fail()) as {
    spec: Record<string, unknown>;
    metadata: Record<string, unknown>;
  };
  assert.deepEqual(spec['usages'], ['digital signature', 'server auth', 'client auth']);
  assert.deepEqual([spec['duration'], spec['isCA']], ['3600s', false]);
  assert.deepEqual(spec['issuerRef'], { kind: 'ClusterIssuer', name: 'culvert', group: 'cert-manager.io' });
  assert.deepEqual(metadata['labels'], { 'culvert.dev/trust-domain': trustDomain });
  assert.equal(cluster.requests.size, 0);
  assert.ok(
    cluster.server.heard.every(({ path }) => !path.includes('approval')),
    'it approves nothing',
  );
  cluster.looksUntilSigned = 1;
});

test('each outcome of a request is an error that says what to do, and none is left in the cluster', async () => {
  const rows = [
    ['denied', 'ISSUER_DENIED', /no policy allows it/, /approver/],
    ['invalid', 'ISSUER_REFUSED', /bad usages/, /events/],
    ['failed', 'ISSUER_REFUSED', /the CA key is gone/, /kubectl describe/],
  ] as const;
  for (const [outcome, code, message, hint] of rows) {
    cluster.outcome = outcome;
    await assert.rejects(issuer.sign(await wanted(), signal), { code, message, hint });
  }
  cluster.outcome = 'unapproved';
  await assert.rejects(issuer.sign(await wanted(), timeoutSignal(500)), {
    code: 'ISSUER_BUSY',
    message: /no approver has approved/,
    hint: /approver-policy/,
  });
  cluster.outcome = 'signed';
  assert.equal(cluster.requests.size, 0);
});

test('each refusal of the Kubernetes API is an error that says what to do', async () => {
  const rows = [
    [403, 'Forbidden', 'ISSUER_DENIED', /"create", "get", "list" and "delete"/],
    [404, 'NotFound', 'ISSUER_REFUSED', /cert-manager is installed/],
    [422, 'Invalid', 'ISSUER_REFUSED', /./],
    [429, 'TooManyRequests', 'ISSUER_BUSY', /load/],
    [500, 'InternalError', 'ISSUER_FAILED', /webhook/],
  ] as const;
  for (const [code, reason, expected, hint] of rows) {
    cluster.status = { code, reason, message: `it says ${reason}` };
    await assert.rejects(issuer.sign(await wanted(), signal), { code: expected, message: new RegExp(reason), hint });
  }
  cluster.status = null;
});

test('a token that Kubernetes has replaced is read again', async () => {
  cluster.token = 'token-2';
  await assert.rejects(issuer.sign(await wanted(), signal), { code: 'ISSUER_CREDENTIAL' });
  await cluster.server.file('token', 'token-2\n');
  await issuer.sign(await wanted(), signal);
});

test('what a controller that was killed left is removed after a while, and nothing of others', async () => {
  cluster.outcome = 'unapproved';
  const left = issuer.sign(await wanted(), timeoutSignal(300));
  await assert.rejects(left);
  cluster.leave('ours', trustDomain);
  cluster.leave('theirs', 'other.test');
  await issuer.maintain(signal);
  assert.equal(cluster.requests.size, 2, 'another controller may still wait for it');
  nowMs += 2 * 3_600_000;
  await issuer.maintain(signal);
  assert.deepEqual([...cluster.requests.keys()], ['theirs']);
  cluster.requests.clear();
  cluster.outcome = 'signed';
});

test('names come from the request only where they are those of the identity', async () => {
  await using directory = await temporaryDirectory();
  await using opened = await openCa(await kubernetesSettings(cluster, directory.path));
  const asked = cluster.server.heard.length;
  const other = await createCsr({ identity: `spiffe://${trustDomain}/ns/billing/sa/api` });
  await assert.rejects(opened.ca.signWorkload({ csrPem: other.csrPem, identity: web, node: hostA }), {
    code: 'CSR_INVALID',
  });
  const old = await createCsr({ commonName: hostA });
  await assert.rejects(opened.ca.signNode({ csrPem: old.csrPem, node: hostA }), {
    code: 'CSR_INVALID',
    message: /upgrade culvert-agent/,
  });
  assert.equal(cluster.server.heard.length, asked);
});
