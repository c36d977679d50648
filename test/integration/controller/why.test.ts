import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WhyAnswer } from '../../../controller/api/api-types.js';
import {
  apply,
  callApi,
  documents,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { joinNodes } from '../../support/controller/joined-agent.js';

test('why explains every endpoint of a service as it does the first', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await joinNodes(controller, 'host-a');
  const replica = (name: string, ip: string) => workloadDocument('shop', name, { ip, labels: { set: 'one' } });
  const service = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { name: 'set', namespace: 'shop' },
    spec: { vips: ['198.19.0.9'], ports: [{ port: 80, targetPort: 8080 }], selector: { set: 'one' } },
  });
  const second = [{ workload: 'shop/second' }];
  const closed = ruleDocument('second-closed', { tier: 'team', priority: 5, action: 'deny', to: second });
  const from = [{ serviceAccount: 'shop/intruder' }];
  const open = ruleDocument('second-for-one', { tier: 'team', priority: 1, action: 'allow', from, to: second });
  const set = documents(
    workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
    replica('first', '198.18.9.1'),
    replica('second', '198.18.9.2'),
    service,
    closed,
    open,
  );
  assert.equal((await apply(controller, set)).status, 200);
  const answer = await callApi(controller, 'GET', '/v1/why?source=shop/api&destination=198.19.0.9&port=80');
  const { others, ...first } = answer.body as WhyAnswer;
  assert.deepEqual(
    [first, ...others].map(({ facts, decision }) => [facts.destination.workload?.name, facts.port, decision.verdict]),
    [
      ['first', 8080, 'allow'],
      ['second', 8080, 'deny'],
    ],
  );
  const [other] = others;
  assert.deepEqual(other?.ruleApplied?.revision, 2);
  assert.ok(other.decision.trace.length > 0);
  assert.match(
    other.nearMisses[0]?.text ?? '',
    /^shop\/second would allow it if the source's service account were shop\/intruder/,
  );
});
