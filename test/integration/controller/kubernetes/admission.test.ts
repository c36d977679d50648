import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { isDeepStrictEqual } from 'node:util';
import type { RunningController } from '../../../../controller/app.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { KubernetesError } from '../../../../controller/kubernetes/kubernetes-error.js';
import { PublishedRoots, rootsForWebhook } from '../../../../controller/kubernetes/published-roots.js';
import {
  callApi,
  eventually,
  silentLog,
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
  // The configuration is made after the controller has started.
  server.refuse(configuration, 404);
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

test('the configuration may be made after the controller has started', async () => {
  await eventually(
    'the controller has tried',
    async () => server.heard.includes(`PATCH ${configuration}`) || undefined,
  );
  assert.equal(server.patches.filter(({ path }) => path === configuration).length, 0);
  server.refuse(configuration, null);
  await written();
});

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

test('the configuration of a root that is rotated has both roots while both count, and then the new one', async () => {
  const { url, caFile, tokenFile } = server;
  const api = new KubernetesApi({ url, caFile, tokenFile });
  const place = rootsForWebhook('rotated', 'culvert-system', '/v1/kubernetes/admission/x');
  let pem = 'old';
  const roots = new PublishedRoots({ api, place, rootsPem: () => pem, log: silentLog });
  for (const now of ['old', 'old\nnew', 'new']) {
    pem = now;
    await roots.publish();
    await roots.publish();
  }
  api.close();
  const bundles = server.patches
    .filter((patch) => patch.path.endsWith('/rotated'))
    .map(({ body }) => (body as { webhooks: [Written] }).webhooks[0].clientConfig.caBundle);
  assert.deepEqual(
    bundles.map((bundle) => Buffer.from(bundle, 'base64').toString()),
    ['old', 'old\nnew', 'new'],
  );
});

test('what others change of the configuration is put right within seconds, and what is theirs stays', async () => {
  const right = server.single(configuration) as { webhooks: [Written & { rules: [{ resources: string[] }] }] };
  const [webhook] = right.webhooks;
  assert.ok(webhook.rules[0].resources.includes('segmentationrules'));
  const [rule] = webhook.rules;
  const others: readonly object[] = [
    { ...webhook, clientConfig: { ...webhook.clientConfig, caBundle: Buffer.from('another').toString('base64') } },
    { ...webhook, clientConfig: { service: { name: 'other', namespace: 'default', port: 443 } } },
    { ...webhook, rules: [{ ...rule, resources: ['segments'] }] },
    { ...webhook, rules: [{ ...rule, operations: ['CREATE'] }] },
    { ...webhook, rules: [rule, { ...rule, apiGroups: ['apps'] }] },
  ];
  for (const other of others) {
    server.overwrite(configuration, { webhooks: [{ ...other, failurePolicy: 'Fail' }] });
    await eventually('it is right again', async () => {
      const [now] = (server.single(configuration) as { webhooks: [Record<string, unknown>] }).webhooks;
      return isDeepStrictEqual({ ...now }, { ...webhook, failurePolicy: 'Fail' }) || undefined;
    });
  }
  const { body } = await callApi(controller, 'GET', '/v1/status');
  const [said] = (body as { kubernetes: { overwritten: string[] } }).kubernetes.overwritten;
  assert.equal(
    said,
    'the ValidatingWebhookConfiguration culvert was changed by another 5 times in the last ten minutes; the controller put it right',
  );
});

test('the roots that agents find before they join are put right too', async () => {
  const place = '/api/v1/namespaces/culvert-system/configmaps/culvert-ca';
  const right = server.single(place);
  assert.deepEqual(right, { data: { 'ca.crt': controller.caPem } });
  server.overwrite(place, { data: { 'ca.crt': 'another', 'other.txt': 'theirs' } });
  await eventually('it is right again', async () => {
    const now = server.single(place);
    return isDeepStrictEqual(now, { data: { 'ca.crt': controller.caPem, 'other.txt': 'theirs' } }) || undefined;
  });
});

test('with a role of an earlier version nothing can be compared, and it is written now and then', async () => {
  const { url, caFile, tokenFile } = server;
  const api = new KubernetesApi({ url, caFile, tokenFile });
  let elapsedMs = 0;
  const place = rootsForWebhook('unread', 'culvert-system', '/v1/kubernetes/admission/x');
  const roots = new PublishedRoots({
    // As the API server answers where the role has "patch" alone.
    api: {
      send: (...what: Parameters<KubernetesApi['send']>) => api.send(...what),
      get: () => Promise.reject(new KubernetesError({ status: 403, message: 'forbidden', hint: '' })),
    },
    place,
    rootsPem: () => 'roots',
    log: silentLog,
    elapsedMs: () => elapsedMs,
  });
  const writes = () => server.patches.filter(({ path }) => path === place.path).length;
  for (const [atMs, count] of [
    [0, 1],
    [3000, 1],
    [9000, 1],
    [10_000, 2],
    [12_000, 2],
  ] as const) {
    elapsedMs = atMs;
    await roots.publish();
    assert.equal(writes(), count, `${atMs} ms`);
  }
  assert.equal(roots.problem, null);
  assert.equal(roots.overwritten, null);
  api.close();
});

/** What a client is answered that sends the head of a request with a body of 3 MiB, and nothing more; how long it took. */
async function answerToHead(pathname: string): Promise<{ readonly status: string; readonly tookMs: number }> {
  const { hostname, port } = new URL(controller.url);
  const socket = connect({ host: hostname, port: Number(port), ca: controller.caPem });
  const startedAtMs = performance.now();
  socket.write(`POST ${pathname} HTTP/1.1\r\nhost: x\r\ncontent-length: ${3 * 1024 * 1024}\r\n\r\n{`);
  let text = '';
  for await (const chunk of socket as AsyncIterable<Buffer>) text += chunk.toString();
  return { status: text.split('\r\n', 1)[0] ?? '', tookMs: performance.now() - startedAtMs };
}

test('a client without the address is answered before its body, and no client may let its body be waited for', async () => {
  const { clientConfig } = await written();
  const right = clientConfig.service.path;
  const [unknown, known] = await Promise.all([answerToHead(`${right.slice(0, -1)}x`), answerToHead(right)]);
  assert.equal(unknown.status, 'HTTP/1.1 404 Not Found');
  assert.ok(unknown.tookMs < 8000, `${unknown.tookMs} ms`);
  assert.equal(known.status, 'HTTP/1.1 408 Request Timeout');
  assert.ok(known.tookMs < 40_000, `${known.tookMs} ms`);
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

function question(name: string, username = 'flood'): object {
  const kind = { group: 'culvert.dev', version: 'v1', kind: 'SegmentationRule' };
  const object = {
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name },
    spec: { action: 'allow', ports: [83] },
  };
  return { request: { uid: name, operation: 'CREATE', kind, object, oldObject: null, userInfo: { username } } };
}

/** A store that does not judge those rules before it is let go on. */
function heldStore(names: RegExp) {
  const { store } = controller;
  const takeCluster = store.takeCluster.bind(store);
  const judging: AbortSignal[] = [];
  let release = () => undefined as void;
  const released = new Promise<void>((resolve) => (release = resolve));
  store.takeCluster = async (request) => {
    if (request.signal === undefined || !names.test(request.first ?? '')) return await takeCluster(request);
    judging.push(request.signal);
    await released;
    return await takeCluster(request);
  };
  return {
    judging,
    [Symbol.dispose]: () => {
      release();
      store.takeCluster = takeCluster;
    },
  };
}

test('what is not judged in time, or because too many ask, has no answer: the failure policy decides', async () => {
  const { clientConfig } = await written();
  const asking = (name: string, username?: string) =>
    callApi(controller, 'POST', clientConfig.service.path, { token: null, body: question(name, username) });
  let waiting: ReturnType<typeof asking>[];
  {
    using held = heldStore(/waits-/);
    let answered = 0;
    waiting = Array.from({ length: 33 }, (_, index) => asking(`waits-${index}`).finally(() => answered++));
    const first = await Promise.race(waiting);
    assert.deepEqual([first.status, (first.body as { code: string }).code], [503, 'ADMISSION_BUSY']);
    assert.deepEqual(
      held.judging.map(({ aborted }) => aborted),
      [false],
      'it was one too many, and its account has one judgement at a time',
    );
    // Another account gets its answer while all of that wait.
    const other = await asking('calm', 'ann');
    assert.deepEqual([other.status, (other.body as { response: { allowed: boolean } }).response.allowed], [200, true]);
    assert.deepEqual(
      held.judging.map(({ aborted }) => aborted),
      [false],
    );
    // The one that is worked on has its answer when the store has seen that.
    await eventually('the others are given up', async () => answered === 32 || undefined);
    assert.deepEqual(
      held.judging.map(({ aborted }) => aborted),
      [true],
    );
  }
  for (const { status, body } of await Promise.all(waiting)) {
    assert.deepEqual([status, (body as { code: string }).code], [503, 'ADMISSION_BUSY']);
  }
  assert.equal((await ask('after-them', { action: 'allow', ports: [82] })).isAllowed, true);
});

test('service accounts of one namespace count as one, and each has its share', async () => {
  const { clientConfig } = await written();
  const asking = (name: string, username: string) =>
    callApi(controller, 'POST', clientConfig.service.path, { token: null, body: question(name, username) });
  using held = heldStore(/robot-/);
  const robots = [0, 1, 2].map((index) => asking(`robot-${index}`, `system:serviceaccount:shop:robot-${index}`));
  await eventually('one is judged', async () => held.judging.length > 0 || undefined);
  assert.equal((await asking('bank', 'system:serviceaccount:bank:robot-0')).status, 200);
  assert.equal(held.judging.length, 1);
  held[Symbol.dispose]();
  for (const { status } of await Promise.all(robots)) assert.equal(status, 200);
});

test('a question whose client is gone is given up', async () => {
  const { clientConfig } = await written();
  using held = heldStore(/gone/);
  const { hostname, port } = new URL(controller.url);
  const socket = connect({ host: hostname, port: Number(port), ca: controller.caPem });
  const text = JSON.stringify(question('gone'));
  socket.write(
    `POST ${clientConfig.service.path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
  );
  await eventually('it is asked', async () => held.judging.length > 0 || undefined);
  const startedAtMs = performance.now();
  socket.destroy();
  await eventually('it is given up', async () => held.judging[0]?.aborted || undefined);
  assert.ok(performance.now() - startedAtMs < 3000, 'before its time is over');
});
