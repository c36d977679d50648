import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FlowsAnswer } from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import { subjectFor } from '../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { encodeFlowBatch } from '../../../shared/wire/flow-batch.js';
import type { FlowParty, ReportedFlow } from '../../../shared/wire/flows.js';
import { encodeRecentFlows } from '../../../shared/wire/recent-flows.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { joinedBus, type Joined } from '../../support/controller/joined-agent.js';
import { reportedFlow } from '../../support/controller/reported-flow.js';
import { nodeNamed, workloadNamed } from '../../support/routing/names.js';

const workloads = documents(
  workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-a' }),
  workloadDocument('billing', 'db', { ip: '198.18.1.2', node: 'host-b' }),
  workloadDocument('shop', 'web', { ip: '198.18.1.3', node: 'host-c' }),
);

function end(workload: string): FlowParty {
  const [namespace = '', serviceAccount = ''] = workload.split('/');
  const identity = formatSpiffeId({ trustDomain: 'culvert.local', namespace, serviceAccount });
  return { workload: workloadNamed(workload), identity, cidr: null };
}

function seen(direction: 'outbound' | 'inbound', source: FlowParty, destination: FlowParty, connections = 7) {
  return reportedFlow(Date.now(), { direction, source, destination, connections });
}

/** Reports and stores, as the agent of the node does. */
async function tell(agent: Joined, node: string, flows: readonly ReportedFlow[]): Promise<void> {
  const run = Buffer.from(node.padEnd(8, '-')).toString('hex');
  const report = encodeRecentFlows({ run, after: 0, sentAtMs: Date.now(), flows });
  await agent.bus.request(subjectFor('recent', nodeNamed(node)), report, { timeoutMs: 30_000 });
  const batch = { run, sequence: 1, sentAtMs: Date.now(), notKept: 0, flows };
  await agent.bus.store(subjectFor('flows', nodeNamed(node)), encodeFlowBatch(batch), { timeoutMs: 30_000 });
}

async function flowsOf(controller: RunningController): Promise<FlowsAnswer> {
  return (await callApi(controller, 'GET', '/v1/flows')).body as FlowsAnswer;
}

test('a compromised node writes no rule for workloads of others, whatever records it sends', async () => {
  await using directory = await temporaryDirectory();
  const state = join(directory.path, 'state');
  const learn = async (): Promise<string> => {
    const { code, out, err } = await culvert(['learn', '--since', '1h'], {
      env: { CULVERT_CONTEXT: join(state, 'admin.yaml') },
      stdin: '',
    });
    assert.equal(code, 0, err);
    return out;
  };
  {
    await using controller = await startedController(state);
    assert.equal((await apply(controller, workloads)).status, 200);
    await using honest = await joinedBus(controller, 'host-b');
    await using evil = await joinedBus(controller, 'host-c');

    const [api, db, web] = [end('billing/api'), end('billing/db'), end('shop/web')];
    const unknown: FlowParty = { workload: null, identity: null, cidr: null };
    await tell(evil, 'host-c', [
      // Two workloads that live elsewhere, with and without their names.
      seen('outbound', api, db),
      seen('inbound', api, db),
      seen('outbound', { ...api, workload: null }, db),
      seen('outbound', { ...api, workload: workloadNamed('billing/gone') }, db),
      seen('outbound', { ...unknown, cidr: '198.18.1.0/24' }, db),
      // Its own workload with the identity of another one.
      seen('outbound', { ...web, identity: api.identity }, db),
      // Its own workload and one that lives elsewhere, both ways.
      seen('outbound', web, db),
      seen('inbound', api, web),
      seen('inbound', { ...api, identity: null }, web),
      seen('inbound', { workload: null, identity: api.identity, cidr: '203.0.113.0/24' }, web),
      // Networks and names that stand for workloads of others.
      seen('outbound', web, { ...unknown, cidr: '0.0.0.0/0' }),
      seen('outbound', web, { ...unknown, cidr: '198.18.1.0/24' }),
      seen('outbound', web, { ...unknown, cidr: 'billing/database' }),
    ]);
    // What it was: the destination refused it.
    await tell(honest, 'host-b', [{ ...seen('inbound', web, db), verdict: 'deny', reason: 'POLICY_DENY' }]);

    await eventually('all is read', async () => {
      const { flows } = await flowsOf(controller);
      return flows.some(({ node }) => node === 'host-b') && flows.length >= 8 ? true : undefined;
    });
    const { flows } = await flowsOf(controller);
    for (const { source, destination } of flows.filter((flow) => flow.node === 'host-c')) {
      const isItsOwn = [source, destination].some(({ workload }) => workload === web.workload);
      assert.ok(isItsOwn || source.workload === workloadNamed('billing/gone'), JSON.stringify({ source, destination }));
    }
    assert.ok(flows.every(({ source, toldBy }) => source.workload !== web.workload || toldBy !== 'both'));
    const learned = await learn();
    assert.doesNotMatch(learned, /^kind: SegmentationRule$/m, learned);
    assert.match(
      learned,
      /# {3}shop\/web -> billing\/db:5432, 14 connections: the agents of its two ends tell different/,
    );
    assert.match(learned, /# {3}billing\/api -> shop\/web:5432, 7 connections: only the destination's agent tells it/);
  }
  await using controller = await startedController(state);
  await eventually('the stream is read again', async () => ((await flowsOf(controller)).isCurrent ? true : undefined));
  assert.doesNotMatch(await learn(), /^kind: SegmentationRule$/m, 'also after a restart');
});

test('what both ends tell is learned, also of a workload that has moved and of records that come late', async () => {
  await using directory = await temporaryDirectory();
  const state = join(directory.path, 'state');
  const [api, db] = [end('billing/api'), end('billing/db')];
  {
    await using controller = await startedController(state);
    assert.equal((await apply(controller, workloads)).status, 200);
    await using source = await joinedBus(controller, 'host-a');
    await using destination = await joinedBus(controller, 'host-b');
    await tell(destination, 'host-b', [seen('inbound', api, db, 3)]);
    await eventually('one end is read', async () => {
      const { flows } = await flowsOf(controller);
      return flows[0]?.toldBy === 'one' ? true : undefined;
    });
    const moved = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-c' }));
    assert.equal((await apply(controller, moved)).status, 200);
    await tell(source, 'host-a', [seen('outbound', api, db, 5)]);
    await eventually('the other end is read', async () => {
      const { flows } = await flowsOf(controller);
      return flows.length === 2 && flows.every(({ toldBy }) => toldBy === 'both') ? true : undefined;
    });
  }
  await using controller = await startedController(state);
  await eventually('both are read again', async () => {
    const { flows, isCurrent } = await flowsOf(controller);
    return isCurrent && flows.length === 2 && flows.every(({ toldBy }) => toldBy === 'both') ? true : undefined;
  });
  const { out } = await culvert(['learn', '--since', '1h'], {
    env: { CULVERT_CONTEXT: join(state, 'admin.yaml') },
    stdin: '',
  });
  assert.match(out, /name: learned-billing-db-5432$/m);
  assert.match(out, /culvert\.dev\/learned-connections: "3"/);
});
