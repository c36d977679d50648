import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { AgentRegistry } from '../../../../controller/fleet/agent-registry.js';
import type { Heartbeat } from '../../../../shared/wire/requests.js';
import { nodeNamed } from '../../../support/routing/names.js';

const clock = { nowMs: 0 };

function registry(): AgentRegistry {
  clock.nowMs = 1_000_000;
  return new AgentRegistry({
    log: pino({ level: 'silent' }),
    nowMs: () => clock.nowMs,
    staleAfterMs: 20_000,
    clockSkewWarningMs: 30_000,
    forgetAfterMs: 86_400_000,
  });
}

function heartbeat(changes: Partial<Heartbeat> = {}): Heartbeat {
  return {
    node: nodeNamed('host-a'),
    version: '1',
    appliedRevision: 5,
    enforcedByAllWorkers: true,
    registrySequence: 5,
    nowMs: 1_000_000,
    startedAtMs: 0,
    workloads: [],
    pending: [],
    ...changes,
  };
}

test('the state of an agent says the worst that is known of it', () => {
  const cases = [
    [heartbeat(), 0, 'ready', 0],
    [heartbeat({ appliedRevision: 6 }), 0, 'ahead', 0],
    [heartbeat({ appliedRevision: 3 }), 0, 'behind', 2],
    [heartbeat({ enforcedByAllWorkers: false }), 0, 'behind', 0],
    [heartbeat({ pending: ['certificates'] }), 0, 'pending', 0],
    [heartbeat({ appliedRevision: null }), 0, 'pending', null],
    [heartbeat(), 20_001, 'stale', 0],
    [heartbeat({ isLast: true }), 0, 'stopped', 0],
    [heartbeat({ isLast: true }), 20_001, 'stopped', 0],
    [heartbeat({ isLast: true, pending: ['certificates'] }), 0, 'stopped', 0],
  ] as const;
  for (const [message, laterMs, state, lag] of cases) {
    const agents = registry();
    agents.receive(nodeNamed('host-a'), message);
    clock.nowMs += laterMs;
    const [agent] = agents.list({ revision: 5, sequence: 12 });
    assert.deepEqual([agent?.state, agent?.revisionLag], [state, lag], JSON.stringify(message));
  }
});

test('an agent that was stopped is back with its next heartbeat, and joined after a new join', () => {
  const agents = registry();
  const state = () => agents.list({ revision: 5, sequence: 12 })[0]?.state;
  agents.receive(nodeNamed('host-a'), heartbeat({ isLast: true }));
  clock.nowMs += 1000;
  agents.noteJoined(nodeNamed('host-a'));
  assert.equal(state(), 'joined');
  agents.receive(nodeNamed('host-a'), heartbeat());
  assert.equal(state(), 'ready');
});

test('what an agent reported before a new join says nothing of the one that joined', () => {
  const agents = registry();
  agents.receive(nodeNamed('host-a'), heartbeat());
  clock.nowMs += 1;
  agents.noteJoined(nodeNamed('host-a'));
  assert.equal(agents.list({ revision: 5, sequence: 12 })[0]?.state, 'joined');
});

test('an agent that joined and was never heard of is there as joined', () => {
  const agents = registry();
  agents.noteJoined(nodeNamed('host-b'));
  agents.receive(nodeNamed('host-a'), heartbeat());
  assert.deepEqual(
    agents.list({ revision: 5, sequence: 12 }).map(({ node, state }) => [node, state]),
    [
      ['host-a', 'ready'],
      ['host-b', 'joined'],
    ],
  );
});

test('the clock of an agent is wrong from the configured difference on, in both directions', () => {
  for (const [skew, isWrong] of [
    [29_999, false],
    [30_000, true],
    [-30_000, true],
    [0, false],
  ] as const) {
    const agents = registry();
    agents.receive(nodeNamed('host-a'), heartbeat({ nowMs: clock.nowMs + skew }));
    const [agent] = agents.list({ revision: 5, sequence: 12 });
    assert.deepEqual([agent?.clockSkewMs, agent?.isClockWrong], [skew, isWrong]);
  }
});

test('the first certificate to expire counts', () => {
  const agents = registry();
  const workload = (name: string, certificateNotAfterMs: number | null) => ({
    name,
    captured: true,
    certificateNotAfterMs,
    problem: null,
  });
  agents.receive(
    nodeNamed('host-a'),
    heartbeat({ workloads: [workload('a/b', 500), workload('a/c', 400), workload('a/d', null)] }),
  );
  assert.equal(agents.list({ revision: 5, sequence: 12 })[0]?.nextCertificateExpiryMs, 400);
});

test('a node that is silent for longer than its credential lasts is forgotten', async () => {
  const agents = registry();
  agents.receive(nodeNamed('host-a'), heartbeat());
  agents.noteJoined(nodeNamed('host-b'));
  clock.nowMs += 86_400_000;
  agents.receive(nodeNamed('host-b'), heartbeat({ node: nodeNamed('host-b') }));
  await agents.forgetSilent();
  assert.equal(agents.list({ revision: 5, sequence: 12 }).length, 2);
  clock.nowMs += 1;
  await agents.forgetSilent();
  assert.deepEqual(
    agents.list({ revision: 5, sequence: 12 }).map(({ node }) => node),
    ['host-b'],
  );
});
