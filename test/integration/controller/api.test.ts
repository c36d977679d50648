import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { connect } from 'node:tls';
import { once } from 'node:events';
import { test } from 'node:test';
import type {
  ApplyAnswer,
  ProblemsAnswer,
  ResourceItem,
  ResourceList,
  StatusAnswer,
  WhyAnswer,
} from '../../../controller/api/api-types.js';
import { createLog } from '../../../shared/log.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { joinNodes } from '../../support/controller/joined-agent.js';

const shop = documents(
  workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
  workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-b', labels: { app: 'db' } }),
  workloadDocument('shop', 'intruder', { ip: '198.18.1.3', node: 'host-a' }),
  JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'database' },
    spec: { vips: ['198.19.0.1'], ports: [{ port: 80, targetPort: 5432 }], selector: { app: 'db' } },
  }),
  ruleDocument('db-only-from-api', {
    tier: 'team',
    priority: 100,
    action: 'allow',
    from: [{ serviceAccount: 'shop/api' }],
    to: [{ workload: 'shop/db' }],
    ports: [5432],
  }),
  ruleDocument('db-closed', { tier: 'team', priority: 900, action: 'deny', to: [{ workload: 'shop/db' }] }),
);

test('every route but those for joining and probes needs the credential', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const guarded = [
    ['POST', '/v1/apply'],
    ['GET', '/v1/resources/Workload'],
    ['GET', '/v1/resources/Workload/api'],
    ['DELETE', '/v1/resources/Workload/shop/api'],
    ['GET', '/v1/why?source=a/b&destination=c/d&port=1'],
    ['GET', '/v1/status'],
    ['POST', '/v1/tokens'],
  ] as const;
  for (const [method, pathname] of guarded) {
    for (const token of [null, '', 'wrong', `${controller.adminToken}x`]) {
      const answer = await callApi(controller, method, pathname, { token });
      assert.equal(answer.status, 401, `${method} ${pathname} with ${token}`);
      assert.equal((answer.body as { code: string }).code, 'UNAUTHORIZED');
    }
  }
  for (const pathname of ['/healthz', '/readyz', '/metrics', '/v1/ca', '/v1/spiffe/bundle']) {
    assert.equal((await callApi(controller, 'GET', pathname, { token: null })).status, 200, pathname);
  }
  assert.equal((await stat(path.join(directory.path, 'admin.yaml'))).mode & 0o777, 0o600);
});

test('problems in two documents are both reported with their lines, and nothing is changed', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const text = [
    'apiVersion: culvert.dev/v1',
    'kind: Workload',
    'metadata: { name: api, namespace: shop }',
    'spec: { addresses: ["198.18.1.1"], colour: red }',
    '---',
    'apiVersion: culvert.dev/v1',
    'kind: SegmentationRule',
    'metadata: { name: dangling }',
    'spec: { tier: team, priority: 1, action: allow, from: [{ segment: nowhere }] }',
    '---',
    workloadDocument('shop', 'good', { ip: '198.18.1.9' }),
  ].join('\n');
  const answer = await apply(controller, text);
  assert.equal(answer.status, 422, answer.text);
  const { code, problems } = answer.body as ProblemsAnswer;
  assert.equal(code, 'INVALID_RESOURCES');
  const errors = problems.filter((problem) => problem.severity === 'error');
  assert.deepEqual(
    errors.map((problem) => [problem.resource, problem.document]),
    [
      ['Workload/shop/api', 1],
      ['SegmentationRule/dangling', 2],
    ],
  );
  assert.ok(
    errors.every((problem) => problem.line !== null && problem.hint !== ''),
    JSON.stringify(errors),
  );
  const list = (await callApi(controller, 'GET', '/v1/resources/Workload')).body as ResourceList;
  assert.deepEqual([list.revision, list.items], [1, []]);
});

test('the revision rises by one for a change of rules and not at all for workloads, the same documents or a dry run', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const open = ruleDocument('open', { tier: 'team', priority: 5, action: 'allow', from: [{ namespace: 'shop' }] });
  const pods = documents(
    workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
    workloadDocument('shop', 'db', { ip: '198.18.1.2' }),
  );
  const steps = [
    { text: pods, dryRun: true, revision: 1, inventory: [1, 2], change: 'created' },
    { text: pods, dryRun: false, revision: 1, inventory: [2, 2], change: 'created' },
    { text: pods, dryRun: false, revision: 1, inventory: [2, 0], change: 'unchanged' },
    { text: open, dryRun: true, revision: 1, inventory: [2, 0], change: 'created' },
    { text: open, dryRun: false, revision: 2, inventory: [2, 0], change: 'created' },
    { text: documents(open, pods), dryRun: false, revision: 2, inventory: [2, 0], change: 'unchanged' },
  ];
  for (const { text, dryRun, revision, inventory, change } of steps) {
    const { status, body } = await apply(controller, text, dryRun);
    assert.equal(status, 200);
    const answer = body as ApplyAnswer;
    assert.equal(answer.revision, revision);
    assert.deepEqual([answer.inventory.sequence, answer.inventory.changes], inventory);
    assert.ok(
      answer.changes.every((one) => one.change === change),
      JSON.stringify(answer.changes),
    );
  }
  const changed = await apply(controller, workloadDocument('shop', 'api', { ip: '198.18.1.7', node: 'host-a' }));
  assert.deepEqual((changed.body as ApplyAnswer).changes, [
    { kind: 'Workload', namespace: 'shop', name: 'api', change: 'configured' },
  ]);
  assert.deepEqual((changed.body as ApplyAnswer).inventory, { sequence: 3, changes: 1 });
  assert.equal((changed.body as ApplyAnswer).revision, 2);
  const both = documents(
    ruleDocument('more', { tier: 'team', priority: 6, action: 'allow', from: [{ namespace: 'shop' }] }),
    workloadDocument('shop', 'late', { ip: '198.18.1.9' }),
  );
  const { revision, inventory } = (await apply(controller, both)).body as ApplyAnswer;
  assert.deepEqual([revision, inventory], [3, { sequence: 4, changes: 1 }]);
});

test('concurrent applies are made one after the other, each with a sequence or a revision of its own', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      apply(controller, workloadDocument('shop', `w${index}`, { ip: `198.18.1.${index + 1}` })),
    ),
  );
  const sequences = answers.map((answer) => (answer.body as ApplyAnswer).inventory.sequence).sort((a, b) => a - b);
  assert.deepEqual(sequences, [2, 3, 4, 5, 6, 7, 8, 9]);
  const rules = await Promise.all(
    Array.from({ length: 4 }, (_, index) =>
      apply(
        controller,
        ruleDocument(`r${index}`, { tier: 'team', priority: index, action: 'allow', from: [{ namespace: 'shop' }] }),
      ),
    ),
  );
  const revisions = rules.map((answer) => (answer.body as ApplyAnswer).revision).sort((a, b) => a - b);
  assert.deepEqual(revisions, [2, 3, 4, 5]);
  const { items } = (await callApi(controller, 'GET', '/v1/resources/wl?namespace=shop')).body as ResourceList;
  assert.equal(items.length, 8);
});

test('resources are listed, read and deleted; what is referred to or missing says so', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await apply(
    controller,
    documents(
      shop,
      JSON.stringify({
        apiVersion: 'culvert.dev/v1',
        kind: 'Segment',
        metadata: { name: 'batch' },
        spec: { members: [{ namespace: 'batch' }] },
      }),
      ruleDocument('uses-batch', {
        tier: 'team',
        priority: 5,
        action: 'allow',
        from: [{ segment: 'batch' }],
        to: [{ workload: 'shop/api' }],
      }),
    ),
  );
  const item = (await callApi(controller, 'GET', '/v1/resources/workloads/db?namespace=shop')).body as ResourceItem;
  assert.deepEqual([item.resource.kind, item.revision, item.appliedBy], ['Workload', 2, 'admin']);

  const inUse = await callApi(controller, 'DELETE', '/v1/resources/Segment/-/batch');
  assert.equal(inUse.status, 422, inUse.text);
  assert.ok(
    (inUse.body as ProblemsAnswer).problems.some((problem) => problem.resource === 'SegmentationRule/uses-batch'),
  );

  const gone = await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/uses-batch');
  assert.deepEqual([gone.status, (gone.body as { revision: number }).revision], [200, 3]);
  assert.equal((await callApi(controller, 'DELETE', '/v1/resources/Segment/-/batch')).status, 200);

  const missing = await callApi(controller, 'GET', '/v1/resources/Workload/dbb?namespace=shop');
  assert.equal(missing.status, 404);
  assert.match((missing.body as { hint: string }).hint, /did you mean db\?/);
  assert.equal((await callApi(controller, 'GET', '/v1/resources/Gadget')).status, 404);
  assert.equal((await callApi(controller, 'DELETE', '/v1/resources/Segment/shop/batch')).status, 400);
});

test('why names the rule for a workload, a service, an account, an address and the port behind a service', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await joinNodes(controller, 'host-a', 'host-b');
  assert.equal((await apply(controller, shop)).status, 200);
  const why = async (source: string, destination: string, port?: number): Promise<WhyAnswer> => {
    const query = new URLSearchParams({ source, destination, ...(port === undefined ? {} : { port: String(port) }) });
    const answer = await callApi(controller, 'GET', `/v1/why?${query.toString()}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.body as WhyAnswer;
  };
  const cases = [
    ['shop/api', 'shop/db', 5432, 'allow', 'db-only-from-api'],
    ['shop/api', 'shop/db', 5433, 'deny', 'db-closed'],
    ['shop/intruder', 'shop/db', 5432, 'deny', 'db-closed'],
    ['sa:shop/api', 'shop/database', 80, 'allow', 'db-only-from-api'],
    ['198.18.1.3', '198.19.0.1', 80, 'deny', 'db-closed'],
    ['shop/api', 'shop/database', undefined, 'allow', 'db-only-from-api'],
    ['192.0.2.7', 'shop/db', 5432, 'deny', 'db-closed'],
    ['shop/api', '192.0.2.7', 443, 'allow', 'default'],
  ] as const;
  for (const [source, destination, port, verdict, name] of cases) {
    const answer = await why(source, destination, port);
    assert.deepEqual(
      [answer.decision.verdict, answer.decision.rule.name],
      [verdict, name],
      `${source} → ${destination}:${port}`,
    );
    assert.ok(answer.decision.trace.length > 0);
    assert.deepEqual([answer.revision, answer.appliedBy], [2, 'admin']);
  }
  const outside = await why('192.0.2.7', 'shop/db', 5432);
  assert.deepEqual(outside.enforcedBy, ['destination']);
  assert.equal(outside.facts.source.identity, null);

  const unknownSource = await callApi(controller, 'GET', '/v1/why?source=shop/apo&destination=shop/db&port=1');
  assert.equal(unknownSource.status, 404);
  assert.match((unknownSource.body as { hint: string }).hint, /did you mean shop\/api/);
  for (const query of [
    'source=shop/api',
    'source=x&destination=shop/db&port=1',
    'source=shop/api&destination=shop/db',
    'source=shop/api&destination=shop/db&port=70000',
    'source=shop/api&destination=shop/database&port=81',
  ]) {
    assert.equal((await callApi(controller, 'GET', `/v1/why?${query}`)).status, 400, query);
  }
});

test('in a STRICT mesh why says that a source without an agent is refused before any rule', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await joinNodes(controller, 'host-a');
  const mesh = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Mesh',
    metadata: { name: 'default' },
    spec: { mtls: 'STRICT' },
  });
  await apply(controller, documents(shop, mesh));
  const answer = await callApi(controller, 'GET', '/v1/why?source=192.0.2.7&destination=shop/api&port=80');
  const { decision } = answer.body as WhyAnswer;
  assert.deepEqual([decision.verdict, decision.reason], ['deny', 'SOURCE_UNKNOWN']);
});

test('for a source without an agent, a rule about its workload can deny but never allow', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const about = (name: string, action: string, port: number) =>
    ruleDocument(name, {
      tier: 'team',
      priority: port,
      action,
      from: [{ workload: 'shop/legacy' }],
      to: [{ workload: 'shop/db' }],
      ports: [port],
    });
  const legacy = workloadDocument('shop', 'legacy', { ip: '198.18.1.4' });
  await apply(controller, documents(shop, legacy, about('no-legacy', 'deny', 10), about('yes-legacy', 'allow', 11)));
  for (const [port, name] of [
    [10, 'no-legacy'],
    [11, 'db-closed'],
  ] as const) {
    const answer = await callApi(controller, 'GET', `/v1/why?source=shop/legacy&destination=shop/db&port=${port}`);
    const { decision } = answer.body as WhyAnswer;
    assert.deepEqual([decision.verdict, decision.rule.name], ['deny', name]);
  }
});

test('status and readiness say what holds', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const status = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  assert.deepEqual([status.revision, status.appliedBy, status.agents], [1, 'system', []]);
  assert.deepEqual(status.controller.pending, []);
  const ready = await callApi(controller, 'GET', '/readyz', { token: null });
  assert.deepEqual(ready.body, { isReady: true, pending: [] });
  const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
  assert.match(text, /^culvert_controller_revision 1$/m);
  assert.match(text, /^culvert_controller_agents\{state="ready"\} 0$/m);
  assert.match(text, /^culvert_controller_build_info\{version="[^"]+"\} 1$/m);
});

test('malformed and oversized requests get an answer that says what is wrong', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const cases = [
    ['POST', '/v1/apply', '{', 400, 'BAD_REQUEST'],
    ['POST', '/v1/apply', '{"documents":1}', 400, 'BAD_REQUEST'],
    ['POST', '/v1/tokens', '{"node":"UPPER"}', 400, 'BAD_REQUEST'],
    ['POST', '/v1/tokens', JSON.stringify({ node: 'x'.repeat(8192) }), 413, 'BODY_TOO_LARGE'],
    ['POST', '/v1/join', '{}', 400, 'WIRE_INVALID'],
    ['GET', '/v1/nowhere', undefined, 404, 'NOT_FOUND'],
    ['DELETE', '/v1/apply', undefined, 405, 'METHOD_NOT_ALLOWED'],
    ['GET', '/v1/resources/%E0%A4%A', undefined, 404, 'NOT_FOUND'],
  ] as const;
  for (const [method, pathname, rawBody, status, code] of cases) {
    const answer = await callApi(controller, method, pathname, rawBody === undefined ? {} : { rawBody });
    assert.deepEqual([answer.status, (answer.body as { code: string }).code], [status, code], `${method} ${pathname}`);
  }
});

test('a path that is no path, and a client that goes away in the middle, are no failures of the controller', async () => {
  await using directory = await temporaryDirectory();
  const lines: string[] = [];
  const log = createLog({ name: 'test', level: 'warn', stream: { write: (line) => lines.push(line) } });
  await using controller = await startedController(directory.path, { log });
  const where = { host: '127.0.0.1', port: controller.port, ca: controller.caPem, servername: 'localhost' };
  const answerTo = async (head: string): Promise<string> => {
    const socket = connect(where);
    socket.write(`${head}\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return (await socket.toArray()).join('');
  };
  assert.match(await answerTo('GET // HTTP/1.1'), /^HTTP\/1\.1 400 [\s\S]*"BAD_REQUEST"/);
  assert.match(await answerTo('GET http://[ HTTP/1.1'), /^HTTP\/1\.1 400 /);
  const leaver = connect(where);
  leaver.write(
    `POST /v1/apply HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${controller.adminToken}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n`,
  );
  // The word to go on: the request is under way.
  await once(leaver, 'data');
  leaver.destroy();
  const hasLeft = async (): Promise<true | undefined> => {
    const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
    return text.includes('route="/v1/apply",status="499"') ? true : undefined;
  };
  await eventually('its leave is counted', hasLeft);
  assert.deepEqual(lines, []);
});

test('the endpoint speaks TLS 1.2 or newer with a certificate of the mesh for its advertised names', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path, {
    changes: { advertise: ['controller.example', '127.0.0.1'] },
  });
  for (const servername of ['controller.example', 'localhost']) {
    const socket = connect({ host: '127.0.0.1', port: controller.port, ca: controller.caPem, servername });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    assert.equal(socket.authorized, true);
    assert.match(socket.getProtocol() ?? '', /^TLSv1\.[23]$/);
    socket.destroy();
  }
  assert.match(controller.url, /^https:\/\/controller\.example:/);
});

test('the certificates of API and nats-server are renewed at half of their life, without a restart', async () => {
  await using directory = await temporaryDirectory();
  let offsetMs = 0;
  await using controller = await startedController(directory.path, {
    changes: { serverCertificateTtl: 10_000 },
    nowMs: () => Date.now() + offsetMs,
  });
  const natsFile = (name: string) => readFile(path.join(directory.path, 'nats', name), 'utf8');
  const apiSerial = async (): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port: controller.port, ca: controller.caPem, servername: 'localhost' });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  };
  const before = { api: await apiSerial(), nats: await natsFile('server.pem'), pid: await natsFile('nats-server.pid') };
  offsetMs = 6000;
  await eventually('both certificates are new', async () => {
    const isNew = (await apiSerial()) !== before.api && (await natsFile('server.pem')) !== before.nats;
    return isNew ? true : undefined;
  });
  assert.equal(await natsFile('nats-server.pid'), before.pid);
  assert.equal((await apply(controller, shop)).status, 200);
});
