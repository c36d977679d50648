import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join as joinPath } from 'node:path';
import { test } from 'node:test';
import type { ApplyAnswer, StatusAnswer, WhyAnswer } from '../../../controller/api/api-types.js';
import {
  apply,
  callApi,
  documents,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import { join, joinNodes, newToken } from '../../support/controller/joined-agent.js';

test('what is registered on a node that never joined is a warning of apply, a row of status, and fails check', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await joinNodes(controller, 'host-a');
  const env = { CULVERT_CONTEXT: joinPath(directory.path, 'admin.yaml') };
  const run = (...argv: string[]) => culvert(argv, { env });

  const wrong = workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'hots-a' });
  const right = workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-a' });
  const unmanaged = workloadDocument('shop', 'printer', { ip: '198.18.1.3' });
  const file = joinPath(directory.path, 'workloads.yaml');
  await writeFile(file, documents(wrong, right, unmanaged));
  const applied = await run('apply', '-f', file);
  assert.equal(applied.code, 0, applied.err);
  assert.equal(
    applied.err,
    `warning: ${file}:1: Workload/shop/api: spec.node: no agent has joined for this node: until one does, the workload is neither encrypted nor subject to rules (did you mean host-a?)`,
  );

  const status = await run('status');
  assert.match(status.out, /^hots-a +no agent +- +- +0\/1 /m);
  assert.match(
    status.out,
    /^hots-a has no agent: 1 workload is registered on it, neither encrypted nor subject to rules$/m,
  );
  const check = await run('check');
  assert.equal(check.code, 1);
  assert.match(check.out, /^✖ nodes: 1 workload is on hots-a, which has no agent: neither encrypted/m);

  // Where a token waits for its host it is about to end: a warning, which other failures do not hide.
  const token = await newToken(controller, 'hots-a');
  assert.match(
    (await run('check')).out,
    /^! nodes: 1 workload is on hots-a, .* \(its join token was not used yet: join the host\)$/m,
  );
  const again = (await apply(controller, wrong)).body as ApplyAnswer;
  assert.deepEqual(
    again.warnings.map(({ path, hint }) => [path, hint]),
    [['spec.node', 'its join token was not used yet: join the host']],
  );

  assert.equal((await join(controller, token, 'hots-a')).status, 200);
  assert.deepEqual(((await apply(controller, wrong)).body as ApplyAnswer).warnings, []);
  const after = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  assert.deepEqual(after.nodesWithoutAgent, []);
});

test('what judges connections takes a workload on a node that never joined for one without an agent, and says so', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await joinNodes(controller, 'host-b');
  const env = { CULVERT_CONTEXT: joinPath(directory.path, 'admin.yaml') };
  const run = (...argv: string[]) => culvert(argv, { env });
  const to = [{ workload: 'shop/db' }];
  const from = [{ serviceAccount: 'shop/api' }];
  const set = documents(
    workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
    workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-b' }),
    ruleDocument('db-closed', { tier: 'team', priority: 5, action: 'deny', to }),
    ruleDocument('db-from-api', { tier: 'team', priority: 1, action: 'allow', from, to }),
  );
  assert.equal((await apply(controller, set)).status, 200);
  const why = async (source: string, destination: string) => {
    const query = `source=shop/${source}&destination=shop/${destination}&port=5432`;
    return (await callApi(controller, 'GET', `/v1/why?${query}`)).body as WhyAnswer;
  };
  const noAgent = 'host-a, the node of shop/api, has no agent: none has joined for it.';

  const { decision, enforcedBy, facts, notes } = await why('api', 'db');
  assert.deepEqual([decision.verdict, decision.rule.name, enforcedBy], ['deny', 'db-closed', ['destination']]);
  assert.equal(facts.source.identity, null);
  assert.ok(notes.includes(noAgent), notes.join());
  assert.match(notes.join(), /The source has no agent: it proves no identity.* with one, .*db-from-api would allow it/);

  const back = await why('db', 'api');
  assert.deepEqual(back.enforcedBy, ['source']);
  assert.match(
    back.notes.join(),
    /sends only through a tunnel, which nothing answers there: what is allowed fails too\./,
  );
  assert.match(notes.join(), /Now shop\/db on host-b is not served: not reported yet: its agent has sent no heartbeat/);

  const noted = /^note: no agent has joined for host-a \(1 workload\): workloads there count as without an agent/m;
  const lint = await run('lint');
  assert.match(lint.err, noted);
  assert.match(lint.out, /db-from-api/);
  const matrix = await run('matrix');
  assert.match(matrix.err, noted);
  assert.doesNotMatch(matrix.out, /db-from-api/);
  const file = joinPath(directory.path, 'open.yaml');
  const open = ruleDocument('db-open', { tier: 'team', priority: 2, action: 'allow', from, to });
  const newHost = workloadDocument('shop', 'web', { ip: '198.18.1.3', node: 'host-c' });
  await writeFile(file, documents(open, newHost));
  const diff = await run('diff', '-f', file);
  assert.match(diff.err, noted);
  assert.match(diff.err, /^note: no agent has joined for host-c yet: this is how it will be when it has$/m);

  const asserted = joinPath(directory.path, 'tests.yaml');
  const assertion = { from: 'shop/api', to: 'shop/db:5432', expect: 'allow' };
  const tests = {
    apiVersion: 'culvert.dev/v1',
    kind: 'PolicyTest',
    metadata: { name: 'api' },
    spec: { tests: [assertion] },
  };
  await writeFile(asserted, documents(set, JSON.stringify(tests)));
  assert.equal((await run('test', '-f', asserted)).code, 0, 'of files alone every node has an agent');
  const failing = await run('test', '-f', asserted, '--joined');
  assert.equal(failing.code, 1, failing.out);
  assert.match(failing.err, noted);
  assert.match(failing.out, /should be allowed, but SegmentationRule\/db-closed denies it/);

  await joinNodes(controller, 'host-a');
  assert.equal((await run('test', '-f', asserted, '--joined')).code, 0);
  const joined = await why('api', 'db');
  assert.deepEqual([joined.decision.verdict, joined.enforcedBy], ['allow', ['source', 'destination']]);
  assert.ok(!joined.notes.includes(noAgent));
  assert.doesNotMatch((await run('lint')).err, /no agent has joined/);
  assert.match((await run('matrix')).out, /db-from-api/);
});
