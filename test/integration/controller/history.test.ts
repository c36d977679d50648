import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type {
  ApplyAnswer,
  ExportAnswer,
  HistoryDetail,
  HistoryItem,
  ProblemsAnswer,
  RollbackAnswer,
  StatusAnswer,
} from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import {
  apply,
  callApi,
  documents,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';

const workloads = documents(
  workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
  workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-b', labels: { app: 'db' } }),
);

function rule(name: string, spec: object, annotations: Readonly<Record<string, string>> = {}): string {
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name, annotations },
    spec: { tier: 'team', from: [{ workload: 'shop/api' }], to: [{ workload: 'shop/db' }], ...spec },
  });
}

async function history(controller: RunningController): Promise<HistoryItem[]> {
  const answer = await callApi(controller, 'GET', '/v1/history');
  assert.equal(answer.status, 200, answer.text);
  return answer.body as HistoryItem[];
}

async function rollback(controller: RunningController, body: object) {
  return callApi(controller, 'POST', '/v1/rollback', { body });
}

const inShort = (items: readonly HistoryItem[]): string[] =>
  items.map(({ revision, message, rollbackOf, changes }) => {
    const text = changes.map(({ name, change }) => `${name} ${change}`).join(', ');
    return `${revision}${rollbackOf === null ? '' : ` = ${rollbackOf}`}: ${text}${message === null ? '' : ` (${message})`}`;
  });

test('history says who changed what, when and why, and a rollback is a new revision of old documents', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  assert.equal((await apply(controller, workloads)).status, 200);
  await callApi(controller, 'POST', '/v1/apply', {
    body: { documents: rule('open', { action: 'allow', priority: 10 }), message: 'CHG-1182' },
  });
  await apply(controller, rule('open', { action: 'deny', priority: 10 }));
  await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/open');

  const preview = (await rollback(controller, { revision: 2, dryRun: true })).body as RollbackAnswer;
  assert.deepEqual([preview.revision, preview.dryRun, preview.changes.length], [4, true, 1]);
  const answer = (await rollback(controller, { revision: 2, message: 'back' })).body as RollbackAnswer;
  assert.deepEqual([answer.revision, answer.rollbackOf], [5, 2]);
  assert.equal(controller.store.release.snapshot.revision, 5);
  assert.deepEqual(inShort(await history(controller)), [
    '5 = 2: open created (back)',
    '4: open deleted',
    '3: open configured',
    '2: open created (CHG-1182)',
    '1: ',
  ]);
  assert.equal(controller.store.inventory.registry.registered.counts.workloads, 2);
  const [newest] = await history(controller);
  assert.deepEqual([newest?.by, newest?.areChangesKnown], ['admin', true]);
  assert.ok(Math.abs(Date.parse(newest?.at ?? '') - Date.now()) < 60_000);

  const detail = (await callApi(controller, 'GET', '/v1/history/3')).body as HistoryDetail;
  const actions = detail.documents.map(({ before, after }) =>
    [before, after].map((one) => (one?.kind === 'SegmentationRule' ? one.spec.action : null)),
  );
  assert.deepEqual(actions, [['allow', 'deny']]);
  assert.deepEqual(
    controller.store.release.snapshot.rules.map(({ action }) => action),
    ['allow'],
  );

  const again = (await rollback(controller, { revision: 5 })).body as RollbackAnswer;
  assert.deepEqual([again.revision, again.changes], [5, []]);
});

test('an unknown or forgotten revision cannot be rolled back to, and the answer says which can', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path, { changes: { historyRevisions: 2 } });
  for (let index = 1; index <= 4; index++) {
    await apply(controller, rule('open', { action: 'allow', priority: index }));
  }
  const forgotten = await rollback(controller, { revision: 2 });
  assert.equal(forgotten.status, 404, forgotten.text);
  assert.match(forgotten.text, /no longer kept.*3 to 5/);
  assert.equal((await callApi(controller, 'GET', '/v1/history/2')).status, 404);
  assert.match((await rollback(controller, { revision: 9 })).text, /no revision 9 yet/);
  assert.equal((await rollback(controller, { revision: 0 })).status, 400);
  assert.deepEqual(
    (await history(controller)).map(({ revision, areChangesKnown }) => [revision, areChangesKnown]),
    [
      [5, true],
      [4, true],
      [3, false],
    ],
  );
  assert.equal(((await rollback(controller, { revision: 3 })).body as RollbackAnswer).revision, 6);
});

test('a rollback is checked like an apply: what was right then may be refused now, and changes nothing', async () => {
  await using directory = await temporaryDirectory();
  let offsetMs = 0;
  await using controller = await startedController(directory.path, { nowMs: () => Date.now() + offsetMs });
  const tests = [{ from: 'shop/api', to: 'shop/db:5432', expect: 'allow' }];
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const short = rule('short', { action: 'allow', priority: 1, expiresAt, tests });
  await apply(controller, documents(workloads, short, rule('closed', { action: 'deny', priority: 2 })));
  assert.equal((await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/short')).status, 200);

  offsetMs = 7_200_000;
  const refused = await rollback(controller, { revision: 2 });
  assert.equal(refused.status, 422, refused.text);
  const [problem] = (refused.body as ProblemsAnswer).problems.filter(({ severity }) => severity === 'error');
  assert.deepEqual([problem?.resource, problem?.path], ['SegmentationRule/short', 'spec.tests[0]']);
  assert.match(
    problem?.message ?? '',
    /should be allowed, but SegmentationRule\/short, which allowed it, expired at \S+; this rule expired at /,
  );
  assert.match(problem?.hint ?? '', /^give the rule a later expiresAt/);
  assert.deepEqual(
    (await history(controller)).map(({ revision }) => revision),
    [3, 2, 1],
  );
  assert.equal(controller.store.release.state.revision, 3);
});

test('an apply that breaks the test of a rule is refused with its place, what was expected and what decides', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const tests = [{ from: 'shop/api', to: 'shop/db:5432', expect: 'deny' }];
  await apply(controller, documents(workloads, rule('closed', { action: 'deny', priority: 5, tests })));
  for (const dryRun of [true, false]) {
    const refused = await apply(controller, rule('first', { action: 'allow', priority: 1 }), dryRun);
    assert.equal(refused.status, 422, refused.text);
    const [problem] = (refused.body as ProblemsAnswer).problems.filter(({ severity }) => severity === 'error');
    assert.deepEqual([problem?.resource, problem?.path], ['SegmentationRule/closed', 'spec.tests[0]']);
    assert.match(problem?.message ?? '', /should be denied, but SegmentationRule\/first allows it/);
  }
  assert.equal(controller.store.release.state.revision, 2);
});

test('a delete that breaks the test of a rule is refused, and a test that failed before does not stop other changes', async () => {
  await using directory = await temporaryDirectory();
  let offsetMs = 0;
  await using controller = await startedController(directory.path, { nowMs: () => Date.now() + offsetMs });
  const tests = [{ from: 'shop/api', to: 'shop/db:5432', expect: 'allow', by: 'short' }];
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const first = await apply(
    controller,
    documents(
      workloads,
      rule('short', { action: 'allow', priority: 1, expiresAt }),
      rule('closed', { action: 'deny', priority: 2, tests }),
    ),
  );
  assert.equal(first.status, 200, first.text);
  const inUse = await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/short');
  assert.equal(inUse.status, 422, inUse.text);
  assert.match(inUse.text, /spec\.tests\[0\]/);

  offsetMs = 7_200_000;
  const unrelated = await apply(controller, workloadDocument('shop', 'other', { ip: '198.18.1.9' }));
  assert.equal(unrelated.status, 200, unrelated.text);
  assert.match(JSON.stringify((unrelated.body as ApplyAnswer).warnings), /before this change too/);
  const own = await apply(controller, rule('closed', { action: 'deny', priority: 3, tests }));
  assert.equal(own.status, 422, own.text);
});

test('an apply says that a rule of it has expired already, once', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const expired = rule('old', { action: 'allow', expiresAt: '2020-01-01T00:00:00Z' });
  const warningsOf = async (): Promise<string> => {
    const { status, body, text } = await apply(controller, documents(workloads, expired));
    assert.equal(status, 200, text);
    return JSON.stringify((body as ApplyAnswer).warnings);
  };
  assert.match(await warningsOf(), /"path":"spec.expiresAt","message":"has expired at 2020-01-01T00:00:00Z/);
  assert.doesNotMatch(await warningsOf(), /has expired/);
});

test('history survives a restart, and so does the way back', async () => {
  await using directory = await temporaryDirectory();
  {
    await using controller = await startedController(directory.path);
    await apply(controller, workloads);
    await apply(controller, rule('open', { action: 'allow' }));
  }
  await using controller = await startedController(directory.path);
  assert.deepEqual(inShort(await history(controller)), ['2: open created', '1: ']);
  assert.equal((await rollback(controller, { revision: 1 })).status, 200);
  assert.deepEqual(inShort(await history(controller)).slice(0, 1), ['3 = 1: open deleted']);
  assert.match(await readFile(path.join(directory.path, 'journal.log'), 'utf8'), /"rollbackOf":1/);
});

test('the export is the mesh: applied to an empty one it gives the same rules and registry', async () => {
  await using directory = await temporaryDirectory();
  await using other = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await apply(controller, documents(workloads, rule('b', { action: 'allow' }), rule('a', { action: 'allow' })));
  const exported = (await callApi(controller, 'GET', '/v1/export')).body as ExportAnswer;
  assert.deepEqual(exported.snapshot, controller.store.release.snapshot);
  assert.equal(exported.entries.length, 2);

  await using empty = await startedController(other.path);
  const applied = await apply(empty, exported.resources);
  assert.equal(applied.status, 200, applied.text);
  const again = (await callApi(empty, 'GET', '/v1/export')).body as ExportAnswer;
  assert.equal(again.resources, exported.resources);
  assert.deepEqual(again.snapshot.rules, exported.snapshot.rules);
  assert.deepEqual(again.entries, exported.entries);
});

test('status lists emergency rules, rules that expire soon and segments without a member', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const empty = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Segment',
    metadata: { name: 'ghosts' },
    spec: { members: [{ namespace: 'nowhere' }] },
  });
  const applied = await apply(
    controller,
    documents(
      workloads,
      empty,
      rule('emergency', { action: 'allow', expiresAt, reason: 'INC-42' }, { 'culvert.dev/break-glass': 'true' }),
    ),
  );
  assert.equal(applied.status, 200, applied.text);
  const { breakGlass, warnings } = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  assert.deepEqual(
    breakGlass.map(({ name, reason, appliedBy, expiresAt: at }) => [name, reason, appliedBy, at]),
    [['emergency', 'INC-42', 'admin', expiresAt]],
  );
  assert.ok((breakGlass[0]?.leftMs ?? 0) > 3_500_000);
  assert.deepEqual(
    warnings.map(({ resource, path: place }) => `${resource ?? ''} ${place}`),
    ['SegmentationRule/emergency spec.expiresAt', 'Segment/ghosts spec.members'],
  );
});

test('an emergency rule that has expired is in no list and no warning, while another expired rule is', async () => {
  await using directory = await temporaryDirectory();
  let laterMs = 0;
  await using controller = await startedController(directory.path, { nowMs: () => Date.now() + laterMs });
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const mark = { 'culvert.dev/break-glass': 'true' };
  const rules = documents(
    workloads,
    rule('emergency', { action: 'allow', expiresAt }, mark),
    rule('ordinary', { action: 'allow', expiresAt, ports: [81] }),
  );
  assert.equal((await apply(controller, rules)).status, 200);
  laterMs = 2 * 3_600_000;
  const { breakGlass, warnings } = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  assert.deepEqual(breakGlass, []);
  assert.deepEqual(
    warnings.filter(({ path: place }) => place === 'spec.expiresAt').map(({ resource }) => resource),
    ['SegmentationRule/ordinary'],
  );
});

test('the new routes need the credential', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  for (const [method, pathname] of [
    ['GET', '/v1/history'],
    ['GET', '/v1/history/1'],
    ['POST', '/v1/rollback'],
    ['GET', '/v1/rollout'],
    ['GET', '/v1/export'],
  ] as const) {
    assert.equal((await callApi(controller, method, pathname, { token: null })).status, 401, pathname);
  }
});
