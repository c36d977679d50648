import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentRegistry } from '../../../../controller/fleet/agent-registry.js';
import { proposedAdvance } from '../../../../controller/fleet/agents-ahead.js';
import { earlyAcceptedWorkloads, uncapturedWorkloads } from '../../../../controller/fleet/capture-progress.js';
import { rolloutOf } from '../../../../controller/fleet/rollout-progress.js';
import type { Heartbeat } from '../../../../shared/wire/requests.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

const startMs = Date.parse('2026-06-01T00:00:00Z');

function heartbeat(node: string, changes: Partial<Heartbeat>): Heartbeat {
  return {
    node: nodeNamed(node),
    version: '0.1.0',
    appliedRevision: 7,
    enforcedByAllWorkers: true,
    registrySequence: null,
    nowMs: startMs,
    startedAtMs: startMs,
    workloads: [],
    pending: [],
    ...changes,
  };
}

function mesh() {
  let nowMs = startMs;
  const agents = new AgentRegistry({
    log: silentLog,
    nowMs: () => nowMs,
    staleAfterMs: 20_000,
    clockSkewWarningMs: 30_000,
    forgetAfterMs: 86_400_000,
  });
  return { agents, pass: (ms: number) => (nowMs += ms) };
}

test('a rollout names each agent that does not enforce the revision, and why', () => {
  const { agents } = mesh();
  agents.receive(nodeNamed('a'), heartbeat('a', {}));
  agents.receive(nodeNamed('b'), heartbeat('b', { appliedRevision: 6 }));
  agents.receive(nodeNamed('c'), heartbeat('c', { enforcedByAllWorkers: false }));
  agents.receive(nodeNamed('d'), heartbeat('d', { appliedRevision: null, pending: ['rules'] }));
  agents.receive(
    nodeNamed('e'),
    heartbeat('e', { appliedRevision: 6, rulesAlarm: 'the snapshot of revision 7 is refused' }),
  );
  agents.noteJoined(nodeNamed('f'));
  const { isComplete, agents: found } = rolloutOf(
    { revision: 7, sequence: null },
    agents.list({ revision: 7, sequence: 12 }),
  );
  assert.equal(isComplete, false);
  assert.deepEqual(
    found.map(({ node, state, problem }) => [node, state, problem]),
    [
      ['a', 'done', null],
      ['b', 'behind', 'it enforces revision 6'],
      ['c', 'behind', 'not all of its workers have switched to it yet'],
      ['d', 'pending', 'it has no rules yet and is waiting for rules'],
      ['e', 'alarm', 'the snapshot of revision 7 is refused'],
      ['f', 'joined', 'it has sent no heartbeat since it joined'],
    ],
  );
});

test('an agent with an alarm, or one that holds more than the controller has made, does not count as done', () => {
  const { agents } = mesh();
  agents.receive(nodeNamed('ahead'), heartbeat('ahead', { appliedRevision: 14, inventorySequence: 30 }));
  agents.receive(nodeNamed('listing'), heartbeat('listing', { appliedRevision: 7, registrySequence: 30 }));
  agents.receive(nodeNamed('refusing'), heartbeat('refusing', { rulesAlarm: 'revision 7 has other content' }));
  agents.receive(nodeNamed('partly'), heartbeat('partly', { registryAlarm: 'list: its sequence is older' }));
  const listed = agents.list({ revision: 7, sequence: 12 });
  assert.deepEqual(
    listed.map(({ node, state }) => [node, state]),
    [
      ['ahead', 'ahead'],
      ['listing', 'ahead'],
      ['partly', 'ready'],
      ['refusing', 'ready'],
    ],
  );
  const { isCompleteButSilent, agents: found } = rolloutOf({ revision: 7, sequence: null }, listed);
  assert.equal(isCompleteButSilent, false);
  assert.deepEqual(
    found.map(({ node, state, problem }) => [node, state, problem]),
    [
      ['ahead', 'alarm', 'it holds a later revision or inventory than this controller has made'],
      ['listing', 'alarm', 'it holds a later revision or inventory than this controller has made'],
      ['partly', 'alarm', 'list: its sequence is older'],
      ['refusing', 'alarm', 'revision 7 has other content'],
    ],
  );
});

test('numbers to advance to are above those of every agent, but no agent pushes them beyond belief', () => {
  const { agents } = mesh();
  const newest = { revision: 7, sequence: 12 };
  agents.receive(nodeNamed('a'), heartbeat('a', { appliedRevision: 14, registrySequence: 29, inventorySequence: 30 }));
  agents.receive(nodeNamed('b'), heartbeat('b', { appliedRevision: 6, inventorySequence: 11 }));
  const honest = proposedAdvance(newest, agents.list(newest));
  assert.deepEqual(honest, {
    revision: 15,
    sequence: 1030,
    ahead: [{ node: 'a', revision: 14, sequence: 30 }],
    unbelievable: [],
  });
  agents.receive(nodeNamed('evil'), heartbeat('evil', { appliedRevision: 8, inventorySequence: 2 ** 53 - 1 }));
  const { unbelievable, ...proposed } = proposedAdvance(newest, agents.list(newest));
  assert.deepEqual({ ...proposed, unbelievable: [] }, honest);
  assert.deepEqual(
    unbelievable.map(({ node }) => node),
    ['evil'],
  );
});

test('a rollout is complete when all agents enforce the revision or a later one, and tells silent ones apart', () => {
  const { agents, pass } = mesh();
  agents.receive(nodeNamed('silent'), heartbeat('silent', { appliedRevision: 3 }));
  assert.equal(
    rolloutOf({ revision: 5, sequence: null }, agents.list({ revision: 7, sequence: 12 })).isComplete,
    false,
  );
  pass(21_000);
  agents.receive(nodeNamed('a'), heartbeat('a', { appliedRevision: 5 }));
  agents.receive(nodeNamed('b'), heartbeat('b', { appliedRevision: 7, pending: ['workload shop/api'] }));
  const rollout = rolloutOf({ revision: 5, sequence: null }, agents.list({ revision: 7, sequence: 12 }));
  assert.deepEqual([rollout.isComplete, rollout.isCompleteButSilent], [false, true]);
  assert.deepEqual(
    rollout.agents.map(({ node, state }) => `${node} ${state}`),
    ['a done', 'b done', 'silent stale'],
  );
  assert.equal(
    rolloutOf({ revision: 6, sequence: null }, agents.list({ revision: 7, sequence: 12 })).isCompleteButSilent,
    false,
  );
  agents.receive(nodeNamed('silent'), heartbeat('silent', { appliedRevision: 7 }));
  assert.equal(rolloutOf({ revision: 5, sequence: null }, agents.list({ revision: 7, sequence: 12 })).isComplete, true);
});

test('with a sequence of the inventory it waits for the registry too, but not of agents that do not say what they have', () => {
  const { agents } = mesh();
  agents.receive(nodeNamed('a'), heartbeat('a', { inventorySequence: 12 }));
  agents.receive(nodeNamed('b'), heartbeat('b', { inventorySequence: 11 }));
  agents.receive(nodeNamed('c'), heartbeat('c', { inventorySequence: null }));
  agents.receive(nodeNamed('old'), heartbeat('old', {}));
  assert.equal(rolloutOf({ revision: 7, sequence: null }, agents.list({ revision: 7, sequence: 12 })).isComplete, true);
  const {
    isComplete,
    sequence,
    agents: found,
  } = rolloutOf({ revision: 7, sequence: 12 }, agents.list({ revision: 7, sequence: 12 }));
  assert.deepEqual([isComplete, sequence], [false, 12]);
  assert.deepEqual(
    found.map(({ node, state, problem }) => [node, state, problem]),
    [
      ['a', 'done', null],
      ['b', 'behind', 'its registry is that of inventory 11'],
      ['c', 'behind', 'it has no whole registry yet'],
      ['old', 'done', null],
    ],
  );
});

test('workloads that no agent captures yet are named with what is known of them', () => {
  const { agents, pass } = mesh();
  agents.receive(nodeNamed('silent'), heartbeat('silent', { workloads: [captured('shop/old')] }));
  pass(21_000);
  const pending = {
    name: 'shop/api',
    captured: false,
    certificateNotAfterMs: null,
    problem: 'it has no certificate yet',
  };
  agents.receive(nodeNamed('a'), heartbeat('a', { workloads: [captured('shop/db'), pending] }));
  const entries = [
    workloadEntry('shop/api', ['198.18.0.1'], { node: nodeNamed('a') }),
    workloadEntry('shop/db', ['198.18.0.2'], { node: nodeNamed('a') }),
    workloadEntry('shop/new', ['198.18.0.3'], { node: nodeNamed('a') }),
    workloadEntry('shop/old', ['198.18.0.4'], { node: nodeNamed('silent') }),
    workloadEntry('shop/other', ['198.18.0.5'], { node: nodeNamed('nowhere') }),
    workloadEntry('shop/plain', ['198.18.0.6'], { node: null }),
  ];
  assert.deepEqual(
    uncapturedWorkloads(entries, agents.list({ revision: 7, sequence: 12 })).workloads.map(
      ({ workload, node, problem, isExpected }) => {
        return [workload, node, problem, isExpected];
      },
    ),
    [
      ['shop/api', 'a', 'it has no certificate yet', true],
      ['shop/new', 'a', 'not reported yet by its agent', true],
      [
        'shop/old',
        'silent',
        'its agent sends no heartbeats; what it captured keeps the rules it has, or is refused',
        false,
      ],
      ['shop/other', 'nowhere', 'no agent has joined for its node', false],
    ],
  );
});

test('a captured workload is not done while its agent says that its connections are refused', () => {
  const { agents } = mesh();
  const problem = 'no worker listens in its namespace: every new connection is refused';
  const unserved = { ...captured('shop/api'), problem, isUnserved: true as const };
  // Late accept, or a certificate that is to be renewed: it works all the same.
  const withProblem = { ...captured('shop/db'), problem: 'its certificate was not renewed' };
  agents.receive(nodeNamed('a'), heartbeat('a', { workloads: [unserved, withProblem] }));
  const entries = ['shop/api', 'shop/db'].map((name, index) =>
    workloadEntry(name, [`198.18.0.${index + 1}`], { node: nodeNamed('a') }),
  );
  assert.deepEqual(uncapturedWorkloads(entries, agents.list({ revision: 7, sequence: 12 })), {
    workloads: [{ workload: 'shop/api', node: 'a', problem, isExpected: true }],
    total: 1,
  });
});

test('a workload of an agent that joined a moment ago is waited for', () => {
  const { agents, pass } = mesh();
  // Of the agent before it, which was killed and whose state is gone.
  agents.receive(nodeNamed('a'), heartbeat('a', { workloads: [captured('shop/api')] }));
  const entries = [workloadEntry('shop/api', ['198.18.0.1'], { node: nodeNamed('a') })];
  assert.equal(uncapturedWorkloads(entries, agents.list({ revision: 7, sequence: 12 })).total, 0);
  pass(1000);
  agents.noteJoined(nodeNamed('a'));
  const problem = 'not reported yet: its agent has sent no heartbeat since it joined';
  assert.deepEqual(uncapturedWorkloads(entries, agents.list({ revision: 7, sequence: 12 })).workloads, [
    { workload: 'shop/api', node: 'a', problem, isExpected: true },
  ]);
});

test('captured workloads whose connects are accepted early against a port are named, but those of silent agents', () => {
  const { agents, pass } = mesh();
  const lateAcceptProblem = 'its rules are not loaded yet';
  agents.receive(
    nodeNamed('silent'),
    heartbeat('silent', { workloads: [{ ...captured('shop/old'), lateAcceptProblem }] }),
  );
  pass(21_000);
  const workloads = [captured('shop/db'), { ...captured('shop/api'), lateAcceptProblem }];
  agents.receive(nodeNamed('a'), heartbeat('a', { workloads }));
  const entries = [
    workloadEntry('shop/api', ['198.18.0.1'], { node: nodeNamed('a') }),
    workloadEntry('shop/db', ['198.18.0.2'], { node: nodeNamed('a') }),
    workloadEntry('shop/old', ['198.18.0.4'], { node: nodeNamed('silent') }),
  ];
  assert.deepEqual(earlyAcceptedWorkloads(entries, agents.list({ revision: 7, sequence: 12 })), {
    workloads: [{ workload: 'shop/api', node: 'a', problem: lateAcceptProblem, isExpected: true }],
    total: 1,
  });
});

function captured(name: string): Heartbeat['workloads'][number] {
  return { name, captured: true, certificateNotAfterMs: null, problem: null };
}
