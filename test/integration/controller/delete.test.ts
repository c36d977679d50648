import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import type { DeleteAnswer, HistoryItem, ProblemsAnswer, StatusAnswer } from '../../../controller/api/api-types.js';
import type { UserCreatedAnswer } from '../../../controller/api/api-types.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import {
  apply,
  callApi,
  documents,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';

const meshWide = (kind: string, name: string, spec: object): string =>
  JSON.stringify({ apiVersion: 'culvert.dev/v1', kind, metadata: { name }, spec });

const batch = meshWide('Segment', 'batch', { members: [{ workload: 'shop/api' }] });
const nightly = meshWide('Segment', 'nightly', { members: [{ segment: 'batch' }] });
const usesBatch = ruleDocument('uses-batch', { action: 'deny', from: [{ segment: 'nightly' }] });
const toApi = ruleDocument('to-api', { action: 'deny', to: [{ workload: 'shop/api' }] });
const api = workloadDocument('shop', 'api', { ip: '198.18.0.1', labels: { app: 'api' } });
const db = workloadDocument('shop', 'db', { ip: '198.18.0.2', labels: { app: 'db' } });

const id = (kind: string, name: string, namespace: string | null = null) => ({ kind, namespace, name });
const rules = [id('Segment', 'batch'), id('Segment', 'nightly'), id('SegmentationRule', 'uses-batch')];

async function position(controller: RunningController): Promise<{ revision: number; sequence: number }> {
  const { revision, inventorySequence } = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  return { revision, sequence: inventorySequence };
}

function remove(controller: RunningController, body: object, token?: string) {
  return callApi(controller, 'POST', '/v1/delete', { body, ...(token === undefined ? {} : { token }) });
}

test('documents that are deleted together make one revision, whatever refers to what, and stay deleted', async () => {
  await using directory = await temporaryDirectory();
  {
    await using controller = await startedController(directory.path);
    assert.equal((await apply(controller, documents(batch, nightly, usesBatch, toApi, api, db))).status, 200);
    const before = await position(controller);
    const resources = [...rules, id('SegmentationRule', 'to-api'), id('wl', 'api', 'shop'), rules[0]];
    const would = await remove(controller, { resources, dryRun: true });
    assert.equal(would.status, 200, would.text);
    assert.equal((would.body as DeleteAnswer).changes.length, 5);
    assert.deepEqual(await position(controller), before);
    const { status, body, text } = await remove(controller, { resources });
    assert.equal(status, 200, text);
    const { changes, warnings, ...answer } = body as DeleteAnswer;
    assert.deepEqual(warnings, [], 'rules that go with the workload are not said to lose it');
    assert.deepEqual(answer, {
      revision: before.revision + 1,
      inventory: { sequence: before.sequence + 1, changes: 1 },
      missing: [],
    });
    assert.equal(changes.length, 5);
    const [newest] = (await callApi(controller, 'GET', '/v1/history')).body as HistoryItem[];
    assert.deepEqual([newest?.revision, newest?.changeCount], [before.revision + 1, 4]);
  }
  await using controller = await startedController(directory.path);
  const { body } = await callApi(controller, 'GET', '/v1/resources/Workload');
  const { items } = body as { items: { resource: { metadata: { name: string } } }[] };
  assert.deepEqual(
    items.map(({ resource }) => resource.metadata.name),
    ['db'],
  );
});

test('of documents that are deleted together all stay when one cannot go', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const ofOthers = ruleDocument('of-others', { action: 'deny', from: [{ segment: 'nightly' }] });
  assert.equal((await apply(controller, documents(batch, nightly, usesBatch, ofOthers, api, db))).status, 200);
  const before = await position(controller);
  const made = await callApi(controller, 'POST', '/v1/users', {
    body: { name: 'team', role: 'editor', namespaces: ['shop'], deleteWorkloads: true },
  });
  const { token } = made.body as UserCreatedAnswer;
  const workload = id('Workload', 'api', 'shop');
  const cases = {
    'a rule that stays refers to it': [await remove(controller, { resources: [workload, ...rules] }), 422],
    'a rule does not exist': [
      await remove(controller, { resources: [workload, id('SegmentationRule', 'uses-bach')] }),
      404,
    ],
    'a workload does not exist': [await remove(controller, { resources: [workload, id('wl', 'gone', 'shop')] }), 404],
    'the user may not': [await remove(controller, { resources: [workload, ...rules] }, token), 403],
    'there is no such kind': [await remove(controller, { resources: [workload, id('Gadget', 'x')] }), 404],
    nothing: [await remove(controller, { resources: [] }), 400],
  } as const;
  for (const [what, [{ status, text }, expected]] of Object.entries(cases)) {
    assert.equal(status, expected, `${what}: ${text}`);
    assert.deepEqual(await position(controller), before, what);
  }
  const [refused] = cases['a rule that stays refers to it'];
  assert.match((refused.body as ProblemsAnswer).problems[0]?.resource ?? '', /of-others/);
  assert.match(cases['a rule does not exist'][0].text, /did you mean uses-batch\?/);
});

test('what does not exist is listed where it may be missing, and workloads alone need no revision', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  assert.equal((await apply(controller, documents(toApi, api, db))).status, 200);
  const before = await position(controller);
  const gone = [id('SegmentationRule', 'gone'), id('Workload', 'gone', 'shop')];
  const resources = [...gone, id('Workload', 'api', 'shop'), id('Workload', 'db', 'shop')];
  const { body, text } = await remove(controller, { resources, ignoreMissing: true });
  const { warnings, missing, inventory, revision } = body as DeleteAnswer;
  assert.deepEqual([revision, inventory.changes, missing], [before.revision, 2, gone], text);
  assert.match(JSON.stringify(warnings), /SegmentationRule\/to-api.*names the workload shop\/api/);
  assert.deepEqual(await position(controller), { ...before, sequence: before.sequence + 1 });
  const nothing = (await remove(controller, { resources: gone, ignoreMissing: true })).body as DeleteAnswer;
  assert.deepEqual([nothing.changes, nothing.missing?.length], [[], 2]);
  assert.deepEqual(await position(controller), { ...before, sequence: before.sequence + 1 });
});

test('culvert delete makes one revision of a file of rules, or none', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(join(directory.path, 'state'));
  const env = { CULVERT_CONTEXT: join(directory.path, 'state', 'admin.yaml') };
  const names = Array.from({ length: 20 }, (_, index) => `rule-${index}`);
  const many = names.map((name, priority) => ruleDocument(name, { action: 'deny', priority, ports: [9] }));
  assert.equal((await apply(controller, documents(...many, batch, api))).status, 200);
  const { revision } = await position(controller);
  const path = join(directory.path, 'rules.yaml');
  await writeFile(path, documents(...many));
  const refused = await culvert(['delete', 'rule', 'rule-0', 'rule-x'], { env });
  assert.deepEqual([refused.code, refused.out], [4, '']);
  assert.equal((await position(controller)).revision, revision);
  const { code, out, err } = await culvert(['delete', '-f', path], { env });
  assert.equal(code, 0, err);
  assert.deepEqual(
    out.split('\n').sort(),
    names.map((name) => `SegmentationRule/${name} deleted, revision ${revision + 1}`).sort(),
  );
  const again = await culvert(['delete', '-f', path, '--ignore-not-found'], { env });
  assert.equal(again.code, 0, again.err);
  assert.match(again.out, /^SegmentationRule\/rule-0 does not exist$/m);
  assert.equal((await position(controller)).revision, revision + 1);
});
