import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentStatus } from '../../../../controller/fleet/agent-registry.js';
import { MeshEventFacts } from '../../../../controller/fleet/event-facts.js';
import type { NodeWithoutAgent } from '../../../../controller/fleet/nodes-without-agent.js';
import type { InventoryConflict } from '../../../../controller/inventory/inventory-source.js';
import { conditionsOf, type EventObjects } from '../../../../controller/kubernetes/cluster-events.js';
import type { Regarding } from '../../../../controller/kubernetes/event-writer.js';
import type { RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import type { Heartbeat } from '../../../../shared/wire/requests.js';
import { nodeNamed } from '../../../support/routing/names.js';

const [web, api] = ['web', 'api'].map((name): unknown => ({
  kind: 'workload',
  namespace: 'shop',
  name,
  node: 'n1',
  netns: `pod:${name}`,
  protocol: 'hbone',
})) as [RegistryEntry, RegistryEntry];

function agentOf(said: Partial<Heartbeat> | null, state: AgentStatus['state'] = 'ready'): AgentStatus {
  const heartbeat = said === null ? null : { node: 'n1', version: '1', workloads: [], pending: [], ...said };
  return { node: nodeNamed('n1'), state, heartbeat } as unknown as AgentStatus;
}

function facts(o: {
  readonly agents?: readonly AgentStatus[];
  readonly without?: readonly NodeWithoutAgent[];
  readonly conflicts?: readonly InventoryConflict[];
}): MeshEventFacts {
  const { agents = [], without = [], conflicts = [] } = o;
  const entries = [web, api];
  const published = new Map(entries.map((entry) => [`workload.shop.${entry.name}`, { entry }]));
  const store = {
    inventory: { entries, registry: { published, conflicts }, sequence: 1 },
    release: { state: { revision: 1 } },
  };
  return new MeshEventFacts({
    store: store as never,
    agents: { list: () => [...agents], statusOf: () => agents[0] },
    nodes: { among: () => [...without] },
    version: '1',
  });
}

/** A cluster that has both pods and the node. */
const objects: EventObjects = {
  startedPod: (key) => regarding('Pod', 'shop', key.split('/')[1] ?? ''),
  node: (name) => (name === 'n1' ? regarding('Node', '', name) : null),
  entry: (key) => regarding(key.startsWith('service.') ? 'Service' : 'Pod', 'shop', key.split('.').at(-1) ?? ''),
  warnings: () => [{ regarding: regarding('Pod', 'shop', 'odd'), problems: ['its label is wrong', 'and another'] }],
};

function regarding(kind: Regarding['kind'], namespace: string, name: string): Regarding {
  return { kind, namespace, name, uid: `uid-${name}` };
}

function texts(mesh: MeshEventFacts, cluster = objects): string[] {
  return conditionsOf(mesh, cluster, new Map()).map(
    ({ regarding: { kind, name }, reason, note }) => `${kind} ${name} ${reason}: ${note}`,
  );
}

const served = (name: string) => ({ name: `shop/${name}`, captured: true, certificateNotAfterMs: null, problem: null });
const clash: InventoryConflict = {
  claim: '10.0.0.1',
  winner: { source: 'documents', key: 'service.shop.db' },
  loser: { source: 'kubernetes', key: 'service.shop.web' },
};

test('a pod that its agent does not capture has an event with the reason, one that it does has none', () => {
  const problem = 'iptables-restore failed';
  const workloads = [{ ...served('web'), captured: false, problem }, served('api')];
  const [first, second, ...more] = texts(facts({ agents: [agentOf({ workloads })] }));
  assert.match(first ?? '', /^Pod web NotCaptured: .*iptables-restore failed$/);
  assert.equal(second, 'Pod odd NotAsWritten: its label is wrong; and another');
  assert.deepEqual(more, []);
});

test('a pod without a sandbox has none: what it waits for is the business of its node', () => {
  const found = texts(facts({ agents: [agentOf({})] }), { ...objects, startedPod: () => null, warnings: () => [] });
  assert.deepEqual(found, []);
});

test('that a pod is captured at last is said of the same pod, and only where its agent says so', () => {
  const before = facts({ agents: [agentOf({ workloads: [served('api')] })] });
  const isServed = { value: false };
  const later = facts({ agents: [agentOf({ workloads: [served('api'), served('web')] })] });
  const mesh = {
    uncaptured: () => before.uncaptured(),
    isCaptured: (name: string) => isServed.value && later.isCaptured(name),
    nodes: () => before.nodes(),
    conflicts: () => [],
  };
  const pods = { ...objects, warnings: () => [] };
  const [condition] = conditionsOf(mesh, pods, new Map());
  assert.equal(condition?.over(), null, 'it left the mesh');
  isServed.value = true;
  assert.equal(condition.over()?.reason, 'Captured');
  const [another] = conditionsOf(mesh, pods, new Map());
  pods.startedPod = () => ({ ...regarding('Pod', 'shop', 'web'), uid: 'the-next-one' });
  assert.equal(another?.over(), null, 'it is another pod of that name');
});

test('nodes have events of what their agents say, and of agents that are not there', () => {
  const quiet = { ...objects, startedPod: () => null, warnings: () => [] };
  const rows: readonly (readonly [Parameters<typeof facts>[0], RegExp])[] = [
    [
      { agents: [agentOf({ cniProblem: 'pods start without the CNI plugin: EROFS' })] },
      /^Node n1 CniPluginNotInstalled: .*EROFS/,
    ],
    [{ agents: [agentOf({ rulesAlarm: 'an older revision' })] }, /^Node n1 RulesRefused: .*an older revision/],
    [{ agents: [agentOf({ version: '0' })] }, /^Node n1 AgentVersion: .*is 0, the controller 1/],
    [{ agents: [agentOf({}, 'stale')] }, /^Node n1 AgentSilent: /],
    [{ agents: [agentOf({}, 'stopped')] }, /^Node n1 AgentStopped: /],
    [
      { without: [{ node: nodeNamed('n1'), workloads: 2, why: 'unknown' }] },
      /^Node n1 NoAgent: no agent has joined for this node, so 2 pods of the mesh here are not captured/,
    ],
    [{ without: [{ node: nodeNamed('n1'), workloads: 1, why: 'removed' }] }, /^Node n1 NoAgent: the node was removed/],
  ];
  for (const [o, expected] of rows) {
    const found = texts(facts(o), quiet);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', expected);
  }
  const well = agentOf({ cniProblem: null, workloads: [served('web'), served('api')] });
  assert.deepEqual(texts(facts({ agents: [well] }), quiet), []);
  const elsewhere = { without: [{ node: nodeNamed('host-of-another'), workloads: 1, why: 'unknown' }] } as const;
  assert.deepEqual(texts(facts(elsewhere), quiet), [], 'the cluster has no such node');
});

test('the one that goes without what both claim has an event', () => {
  const found = texts(facts({ conflicts: [clash] }), { ...objects, startedPod: () => null, warnings: () => [] });
  assert.deepEqual(found, [
    'Service web Clash: goes without what another one has: 10.0.0.1 is that of service.shop.db (documents) too',
  ]);
});

test('a node may take pods when its agent, heard of since it was made, has rules, the plugin and the list of namespaces', () => {
  const heard = { lastSeenMs: 5000 };
  const ruled = { appliedRevision: 1, enforcedByAllWorkers: true, inventorySequence: 1 };
  const whole = { ...ruled, cniProblem: null, knowsEnrolment: true } as const;
  const asked = (agent: AgentStatus | null, sinceMs = 1000): string | null =>
    facts({ agents: agent === null ? [] : [{ ...agent, ...heard }] }).capturesNothingYet('n1', sinceMs);
  assert.equal(asked(agentOf(whole)), null);
  assert.equal(asked(agentOf(whole, 'behind')), null);
  assert.equal(asked(agentOf(ruled)), null, 'installed without the plugin');
  assert.equal(asked(agentOf({ ...whole, cniProblem: 'the file cannot be written' })), 'the file cannot be written');
  // It would let every pod pass as one of a namespace that is not in the mesh.
  assert.match(asked(agentOf({ ...ruled, cniProblem: null })) ?? '', /does not know yet which namespaces/);
  for (const lacking of [{ appliedRevision: null }, { enforcedByAllWorkers: false }, { inventorySequence: null }]) {
    assert.match(asked(agentOf({ ...whole, ...lacking })) ?? '', /no rules yet/);
  }
  assert.match(asked(agentOf(whole), 6000) ?? '', /no agent of it/, 'an earlier node of this name');
  for (const state of ['stale', 'stopped', 'joined'] as const) {
    assert.match(asked(agentOf(whole, state)) ?? '', /silent/, state);
  }
  assert.match(asked(agentOf(null, 'joined')) ?? '', /no agent of it/);
  assert.match(asked(null) ?? '', /no agent of it/);
});
