import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { RunningController } from '../../../../controller/app.js';
import {
  callApi,
  eventually,
  startedController,
  temporaryDirectory,
} from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

let server: FakeApiServer;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;
const [rules, segments] = ['/apis/culvert.dev/v1/segmentationrules', '/apis/culvert.dev/v1/segments'];
const configuration = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/culvert';

before(async () => {
  server = await FakeApiServer.start();
  directory = await temporaryDirectory();
  controller = await startedController(path.join(directory.path, 'controller'), {
    changes: {
      kubernetesApi: server.url.origin,
      kubernetesCaFile: server.caFile,
      kubernetesTokenFile: server.tokenFile,
      kubernetesWebhook: 'culvert',
    },
  });
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

type Written = {
  readonly name: string;
  readonly clientConfig: { readonly caBundle: string; readonly service: { readonly path: string } };
};

/** What the controller wrote into the configuration of the webhook. */
function written(): Promise<Written> {
  return eventually('the webhook is written', async () => {
    const patch = server.patches.find((each) => each.path === configuration);
    return (patch?.body as { webhooks: Written[] } | undefined)?.webhooks[0];
  });
}

let asked = 0;
/** What an API server is answered that asks about a rule. */
async function ask(name: string, spec: object, o: { operation?: string; oldSpec?: object; kind?: string } = {}) {
  const { operation = 'CREATE', oldSpec = null, kind = 'SegmentationRule' } = o;
  const object = { apiVersion: 'culvert.dev/v1', kind, metadata: { name, uid: 'u', managedFields: [] }, spec };
  const uid = `question-${++asked}`;
  const request = {
    uid,
    operation,
    kind: { group: 'culvert.dev', version: 'v1', kind },
    object: operation === 'DELETE' ? null : object,
    oldObject: oldSpec === null ? null : { ...object, metadata: { name, finalizers: ['x'] }, spec: oldSpec },
  };
  const { clientConfig } = await written();
  const { status, body } = await callApi(controller, 'POST', clientConfig.service.path, {
    token: null,
    body: { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request },
  });
  assert.equal(status, 200);
  const { response } = body as { response: { uid: string; allowed: boolean; status?: { message: string } } };
  assert.equal(response.uid, uid);
  return { isAllowed: response.allowed, message: response.status?.message ?? '' };
}

test('the configuration of the webhook has the address and the roots of the mesh', async () => {
  const { name, clientConfig } = await written();
  assert.equal(name, 'rules.culvert.dev');
  assert.equal(Buffer.from(clientConfig.caBundle, 'base64').toString(), controller.caPem);
  assert.match(clientConfig.service.path, /^\/v1\/kubernetes\/admission\/[0-9a-f]{32}$/);
});

test('another address is none, whoever asks', async () => {
  const { clientConfig } = await written();
  const { path: right } = clientConfig.service;
  for (const wrong of [`${right}0`, right.replace(/.$/, (last) => (last === '0' ? '1' : '0'))]) {
    for (const token of [null, controller.adminToken]) {
      assert.equal((await callApi(controller, 'POST', wrong, { token, body: {} })).status, 404);
    }
  }
  const odd = await callApi(controller, 'POST', right, { token: null, rawBody: '{"request":' });
  assert.equal(odd.status, 400);
});

test('what is right is allowed, and nothing is changed by the question', async () => {
  const { revision } = controller.store.release.state;
  assert.deepEqual(await ask('good', { action: 'allow', ports: [80] }), { isAllowed: true, message: '' });
  assert.equal(controller.store.release.state.revision, revision);
  assert.equal(controller.store.release.state.resources.size, 0);
});

test('what is wrong is refused with what a document would be told', async () => {
  const misspelt = await ask('bad', { action: 'allow', form: [] });
  assert.deepEqual(misspelt, { isAllowed: false, message: 'spec.form: is not a field here (did you mean "from"?)' });
  const dangling = await ask('bad', { action: 'allow', from: [{ segment: 'batch' }] });
  assert.equal(dangling.isAllowed, false);
  assert.match(dangling.message, /^spec\.from\[0\]\.segment: there is no Segment "batch"/);
});

test('what was written a moment before counts, also while the watch has not told of it', async () => {
  const asking = ask('later', { action: 'allow', from: [{ segment: 'fresh' }] });
  setTimeout(() => {
    const spec = { members: [{ namespace: 'billing' }] };
    server.put(segments, { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name: 'fresh' }, spec });
  }, 150);
  assert.deepEqual(await asking, { isAllowed: true, message: '' });
});

test('the bad object of another does not stop it', async () => {
  server.put(rules, {
    kind: 'SegmentationRule',
    metadata: { name: 'other' },
    spec: { action: 'allow', from: [{ segment: 'x' }] },
  });
  await eventually('it is known', async () => server.patches.some((each) => each.path.endsWith('/other/status')));
  assert.equal((await ask('mine', { action: 'allow', ports: [81] })).isAllowed, true);
});

test('a change that leaves the rule as it is passes, and so does a deletion', async () => {
  const bad = { action: 'perhaps' };
  assert.equal((await ask('bad', bad, { operation: 'UPDATE', oldSpec: bad })).isAllowed, true);
  assert.equal((await ask('bad', bad, { operation: 'DELETE' })).isAllowed, true);
  assert.equal((await ask('bad', bad, { operation: 'UPDATE', oldSpec: { action: 'allow' } })).isAllowed, false);
});

test('a document of the same name refuses the object', async () => {
  const documents = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'both' },
    spec: { action: 'deny', ports: [22] },
  });
  assert.equal((await callApi(controller, 'POST', '/v1/apply', { body: { documents } })).status, 200);
  assert.match((await ask('both', { action: 'allow' })).message, /conflicts with a document of the same name/);
});
