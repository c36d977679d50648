import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StatusAnswer } from '../../../../controller/api/api-types.js';
import { renderChecks } from '../../../../controller/cli/commands/check-command.js';
import { renderStatus } from '../../../../controller/cli/commands/status-command.js';
import type { MeshCheck } from '../../../../controller/cli/view/mesh-check.js';
import { checkMesh, type MeshFacts } from '../../../../controller/cli/view/mesh-checks.js';
import type { ReplicasState } from '../../../../controller/kubernetes/replicas.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';

const nowMs = Date.parse('2026-01-01T01:00:00Z');
const hour = 3_600_000;

type Agent = StatusAnswer['agents'][number];
type Heartbeat = NonNullable<Agent['heartbeat']>;

const heartbeat: Heartbeat = {
  node: nodeNamed('host-a'),
  version: '0.1.0',
  appliedRevision: 7,
  enforcedByAllWorkers: true,
  registrySequence: 3,
  nowMs,
  startedAtMs: nowMs - hour,
  pending: [],
  workloads: [{ name: 'billing/api', captured: true, certificateNotAfterMs: nowMs + 20 * hour, problem: null }],
};

const agent: Agent = {
  node: nodeNamed('host-a'),
  joinedAtMs: nowMs - hour,
  lastSeenMs: nowMs - 2000,
  clockSkewMs: -12,
  state: 'ready',
  revisionLag: 0,
  isClockWrong: false,
  nextCertificateExpiryMs: nowMs + 20 * hour,
  heartbeat,
};

const status: StatusAnswer = {
  controller: {
    version: '0.1.0',
    trustDomain: 'mesh.test',
    startedAt: '2026-01-01T00:00:00Z',
    pending: [],
    issuingCaNotAfter: '2026-12-31T00:00:00Z',
  },
  revision: 7,
  inventorySequence: 30,
  appliedAt: '2026-01-01T00:55:00Z',
  appliedBy: 'admin',
  warnings: [],
  breakGlass: [],
  agents: [agent],
};

const well: MeshFacts = {
  status,
  workloadsByNode: new Map([['host-a', 1]]),
  uncaptured: { workloads: [], total: 0 },
  version: '0.1.0',
  nowMs,
};

function uncaptured(problem: string, isExpected = true): Pick<MeshFacts, 'uncaptured'> {
  const workload = { workload: workloadNamed('billing/new'), node: nodeNamed('host-a'), problem, isExpected };
  return { uncaptured: { workloads: [workload], total: 1 } };
}

function unwell(facts: MeshFacts): string[] {
  return checkMesh(facts)
    .filter(({ state }) => state !== 'ok')
    .map(({ check, state, message }) => `${state} ${check}: ${message}`);
}

function withAgent(changes: Partial<Agent>, said: Partial<Heartbeat> = {}): MeshFacts {
  const changed = { ...agent, heartbeat: { ...heartbeat, ...said }, ...changes };
  return { ...well, status: { ...status, agents: [changed] } };
}

function weakAgent(node: Agent['node']): Agent {
  const weaknesses = ['/proc/sys is read-only for the agent'];
  return { ...agent, node, heartbeat: { ...heartbeat, workloads: [], weaknesses } };
}

function withController(changes: Partial<StatusAnswer['controller']>): MeshFacts {
  return { ...well, status: { ...status, controller: { ...status.controller, ...changes } } };
}

const [workload] = heartbeat.workloads;
assert.ok(workload !== undefined);
const old = (leftMs: number): Heartbeat['workloads'][number] => ({
  ...workload,
  name: 'billing/db',
  certificateNotAfterMs: nowMs + leftMs,
});

describe('culvert check', () => {
  it('warns of a mesh that no agent has joined, and says nothing of capture there', () => {
    const empty = { ...well, workloadsByNode: new Map(), status: { ...status, agents: [] } };
    assert.deepEqual(unwell(empty), [
      'warn agents: no agent has joined: no connection is encrypted or subject to rules',
    ]);
    assert.ok(!checkMesh(empty).some(({ message }) => message === 'every workload is captured'));
  });

  it('says of a well mesh what it looked at', () => {
    assert.deepEqual(
      checkMesh(well).map(({ check, state, hint }) => [check, state, hint]),
      ['controller', 'issuing CA', 'nodes', 'agents', 'workloads', 'certificates', 'clocks', 'versions', 'rules'].map(
        (check) => [check, 'ok', ''],
      ),
    );
  });

  const cases: readonly (readonly [string, MeshFacts, readonly string[]])[] = [
    [
      'a controller that waits',
      withController({ pending: ['nats'] }),
      ['fail controller: the controller is waiting for nats'],
    ],
    [
      'a host whose kernel lacks a match',
      withAgent(
        {},
        { weaknesses: ['a process with CAP_NET_RAW can leave capture: no cgroup v2 hierarchy is mounted'] },
      ),
      [
        'warn agents: host-a protects less than others: a process with CAP_NET_RAW can leave capture: no cgroup v2 hierarchy is mounted',
      ],
    ],
    [
      'hosts that lack the same, as hosts of one make do',
      { ...well, status: { ...status, agents: ['host-a', 'host-b'].map((node) => weakAgent(nodeNamed(node))) } },
      ['warn agents: host-a, host-b protect less than others: /proc/sys is read-only for the agent'],
    ],
    [
      'an issuing CA near its end',
      withController({ issuingCaNotAfter: '2026-01-11T01:00:00Z' }),
      ['warn issuing CA: the issuing CA expires in 10d'],
    ],
    [
      'an issuing CA past its end',
      withController({ issuingCaNotAfter: '2025-12-31T01:00:00Z' }),
      ['fail issuing CA: the issuing CA expired 1d ago'],
    ],
    [
      'an issuer elsewhere whose root no file confirms, which has a problem',
      withController({
        issuer: {
          kind: 'vault',
          place: 'Vault at https://vault.test',
          hasNamedRoots: false,
          problem: 'Vault is sealed',
          problemSince: null,
        },
      }),
      [
        'fail issuing CA: Vault at https://vault.test does not sign as it should; certificates that are not renewed run out: Vault is sealed',
        'warn issuing CA: the root of Vault at https://vault.test is the one that it gave at the first start; no file confirms it',
      ],
    ],
    [
      'workloads on a node without an agent',
      { ...well, workloadsByNode: new Map([['host-b', 2]]) },
      ['fail nodes: 2 workloads are on host-b, which has no agent: neither encrypted nor subject to rules'],
    ],
    [
      'workloads on a node that nothing joins, and on one that a host is about to join',
      {
        ...well,
        status: {
          ...status,
          nodesWithoutAgent: [
            { node: nodeNamed('host-b'), workloads: 1, why: 'expected' },
            { node: nodeNamed('hots-a'), workloads: 2, why: 'unknown' },
          ],
        },
      },
      [
        'warn nodes: 1 workload is on host-b, which has no agent: neither encrypted nor subject to rules',
        'fail nodes: 2 workloads are on hots-a, which has no agent: neither encrypted nor subject to rules',
      ],
    ],
    [
      'workloads on a node that was removed',
      {
        ...well,
        status: { ...status, removedNodes: ['host-b'] },
        workloadsByNode: new Map([
          ['host-a', 1],
          ['host-b', 1],
        ]),
      },
      [
        'warn nodes: 1 workload is on host-b, a node that was removed: other agents send to such workloads only through tunnels',
      ],
    ],
    [
      'an agent that was never heard of',
      withAgent({ state: 'joined', heartbeat: null, lastSeenMs: null }),
      ['fail agents: host-a has sent no heartbeat since it joined'],
    ],
    [
      'a silent agent, and nothing of what it said long ago',
      withAgent({ state: 'stale' }, { workloads: [{ ...workload, captured: false }] }),
      ['fail agents: host-a no longer sends heartbeats'],
    ],
    [
      'an agent that was stopped, and nothing of what it said before',
      withAgent({ state: 'stopped' }, { workloads: [{ ...workload, captured: false }] }),
      ['fail agents: the agent of host-a was stopped'],
    ],
    [
      'a silent agent whose certificates have expired since',
      withAgent({ state: 'stale' }, { workloads: [{ ...workload, certificateNotAfterMs: nowMs - hour }] }),
      [
        'fail agents: host-a no longer sends heartbeats',
        'fail certificates: the certificate of billing/api on host-a expired 1h ago',
      ],
    ],
    [
      'an agent that is behind',
      withAgent({ state: 'behind', revisionLag: 2 }),
      ['fail agents: host-a is 2 revisions behind'],
    ],
    [
      'an agent that waits',
      withAgent({ state: 'pending' }, { pending: ['certificates'] }),
      ['fail agents: host-a is waiting for certificates'],
    ],
    [
      'an agent without rules',
      withAgent({ state: 'pending' }, { appliedRevision: null }),
      ['fail agents: host-a has no rules yet and refuses all connections'],
    ],
    [
      'refused rules',
      withAgent({}, { rulesAlarm: 'the signature is wrong' }),
      ['fail agents: host-a rejects the rules in NATS: the signature is wrong'],
    ],
    [
      'an agent that passes over fields of the rules',
      withAgent({}, { passedOver: ['destinationRules.policy.colour'] }),
      ['warn agents: host-a is too old for destinationRules.policy.colour of the rules, and goes on without'],
    ],
    [
      'a refused part of the registry',
      withAgent({}, { registryAlarm: 'list: its sequence 14 is older than 30' }),
      ['fail agents: host-a rejects part of the registry in NATS: list: its sequence 14 is older than 30'],
    ],
    [
      'an agent with more than the controller has made',
      withAgent({ state: 'ahead' }, { appliedRevision: 14, registrySequence: 30 }),
      [
        'fail agents: host-a holds revision 14 with inventory 30, which this controller has not made, and refuses older ones',
      ],
    ],
    [
      'rules that may be old',
      withAgent({}, { rulesAgeProblem: 'the controller has not confirmed them' }),
      ['fail agents: host-a: the controller has not confirmed them'],
    ],
    [
      'a workload that is not captured',
      withAgent({}, { workloads: [{ ...workload, captured: false, problem: 'the namespace is gone' }] }),
      ['fail workloads: billing/api on host-a: the namespace is gone'],
    ],
    [
      'a workload that its agent does not report yet',
      { ...well, ...uncaptured('not reported yet by its agent') },
      ['fail workloads: billing/new on host-a: not reported yet by its agent'],
    ],
    [
      'the workloads of an agent that has just joined, whatever the agent before it said',
      { ...withAgent({ state: 'joined' }), ...uncaptured('not reported yet: no heartbeat') },
      [
        'fail agents: host-a has sent no heartbeat since it joined',
        'fail workloads: billing/new on host-a: not reported yet: no heartbeat',
      ],
    ],
    [
      'a certificate that was not renewed',
      withAgent({}, { workloads: [workload, old(2 * hour)] }),
      ['warn certificates: the certificate of billing/db on host-a expires in 2h'],
    ],
    [
      'a certificate that has expired',
      withAgent({}, { workloads: [workload, old(-hour)] }),
      ['fail certificates: the certificate of billing/db on host-a expired 1h ago'],
    ],
    [
      'a wrong clock',
      withAgent({ isClockWrong: true, clockSkewMs: 90_000 }),
      ["warn clocks: the clock of host-a differs from the controller's by +1m"],
    ],
    [
      'an agent of another version',
      withAgent({}, { version: '0.0.9' }),
      ['warn versions: host-a runs 0.0.9, the controller 0.1.0'],
    ],
    [
      'a command of another version',
      { ...well, version: '0.2.0' },
      ['warn versions: this command is 0.2.0, the controller 0.1.0'],
    ],
  ];
  for (const [what, facts, expected] of cases) it(`finds ${what}`, () => assert.deepEqual(unwell(facts), expected));

  it('does not say that workloads are captured of which nothing is known', () => {
    const said = (facts: MeshFacts): string | undefined =>
      checkMesh(facts).find(({ check }) => check === 'workloads')?.message;
    assert.equal(said(well), 'every workload is captured');
    const silent = { ...well, ...uncaptured('its agent sends no heartbeats', false) };
    assert.equal(said(silent), 'every workload on a node whose agent reports is captured');
  });

  it('says of a cluster which nodes have the CNI plugin, once, and why events are missing', () => {
    const kubernetes = { isSynced: true, problems: [], pods: 3, enrolled: 2, services: 1, warnings: [] };
    const inCluster = (said: Partial<Heartbeat>, more: object = {}): MeshFacts => {
      const facts = withAgent({}, said);
      return { ...facts, status: { ...facts.status, kubernetes: { ...kubernetes, ...more } } };
    };
    const sound = checkMesh(inCluster({ cniProblem: null })).find(({ check }) => check === 'kubernetes');
    assert.match(sound?.message ?? '', /the CNI plugin is in the chain of 1 of 1 nodes$/);
    const problem = 'pods start without the CNI plugin: /etc/cni/net.d: Read-only file system';
    assert.deepEqual(unwell(inCluster({ cniProblem: problem, weaknesses: [problem] })), [
      `warn kubernetes: host-a: ${problem}`,
    ]);
    assert.deepEqual(unwell(withAgent({}, { cniProblem: problem, weaknesses: [problem] })), [
      `warn agents: host-a protects less than others: ${problem}`,
    ]);
    assert.deepEqual(unwell(inCluster({}, { eventsProblem: 'events cannot be written: 403' })), [
      'warn kubernetes: events cannot be written: 403',
    ]);
    assert.deepEqual(unwell(inCluster({}, { taintsProblem: 'nodes take no pods: n3' })), [
      'warn kubernetes: nodes take no pods: n3',
    ]);
  });

  it('names an emergency rule once, with the time that it has left', () => {
    const expiring = {
      severity: 'warning',
      fileName: null,
      document: null,
      line: null,
      resource: 'SegmentationRule/break-glass',
      path: 'spec.expiresAt',
      message: 'expires soon',
      hint: '',
    } as const;
    const rule = { name: 'break-glass', expiresAt: '', leftMs: hour, reason: null, owner: null, appliedBy: 'alice' };
    assert.deepEqual(
      unwell({
        ...well,
        status: {
          ...status,
          warnings: [expiring, { ...expiring, resource: 'SegmentationRule/other' }],
          breakGlass: [rule],
        },
      }),
      [
        'warn rules: SegmentationRule/other: spec.expiresAt: expires soon',
        'warn rules: break-glass rule break-glass is in force for another 1h',
      ],
    );
  });

  it('takes certificates of 30 seconds for what they are when all are', () => {
    assert.deepEqual(unwell(withAgent({}, { workloads: [old(16_000), old(29_000)] })), []);
  });

  it('says which of two controllers serves, which one stands by, and what is wrong with that', () => {
    const serving = { name: 'controller-a', node: 'n1', since: '2025-12-31T22:00:00Z' };
    const second = { name: 'controller-b', node: 'n2', since: '2026-01-01T00:00:00Z' };
    const sound = { lease: 'culvert', serving, standingBy: [second], notReady: [], problem: null, leaseProblem: null };
    const of = (changes: Partial<ReplicasState>): MeshFacts => ({
      ...well,
      status: { ...status, replicas: { ...sound, ...changes } },
    });
    assert.deepEqual(unwell(of({})), []);
    const [line] = checkMesh(of({})).filter(({ check }) => check === 'replicas');
    assert.equal(line?.message, 'controller-a on n1 has served for 3h; controller-b on n2 has stood by for 1h');
    assert.match(
      renderStatus(of({}).status, nowMs),
      /^replicas {4}controller-a on n1 has served for 3h; controller-b on/m,
    );
    for (const [changes, wrong] of [
      [
        { standingBy: [] },
        /^warn replicas: no second controller stands by, although this one serves with the Lease culvert/,
      ],
      [
        { standingBy: [], notReady: [{ name: 'controller-b', node: null, why: '0/2 nodes' }] },
        /^warn replicas: the controller controller-b cannot take over: 0\/2 nodes/,
      ],
      [
        { standingBy: [], problem: 'they cannot be listed: 403' },
        /^warn replicas: whether .* is not known.*not checked.*403/,
      ],
      [
        { leaseProblem: 'it did not answer in time' },
        /^warn replicas: the Lease culvert could not be renewed.*in time/,
      ],
    ] as const) {
      const found = unwell(of(changes));
      assert.equal(found.length, 1);
      assert.match(found[0] ?? '', wrong);
    }
    // One that serves alone, or of an earlier version.
    for (const replicas of [null, undefined]) {
      const alone = { ...status, ...(replicas === undefined ? {} : { replicas }) };
      assert.ok(!checkMesh({ ...well, status: alone }).some(({ check }) => check === 'replicas'));
      assert.doesNotMatch(renderStatus(alone, nowMs), /replicas/);
    }
  });

  it('says who changed what belongs to the controller', () => {
    const text = 'the ConfigMap culvert-ca was changed by another once in the last ten minutes';
    const kubernetes = {
      isSynced: true,
      problems: [],
      pods: 3,
      enrolled: 2,
      services: 1,
      warnings: [],
      overwritten: [text],
    };
    assert.deepEqual(unwell({ ...well, status: { ...status, kubernetes } }), [`warn kubernetes: ${text}`]);
  });

  it('shows what is suspicious about rules, with what to do', () => {
    const warning = {
      severity: 'warning',
      fileName: null,
      document: null,
      line: null,
      resource: 'Segment/batch',
      path: 'spec.members',
      message: 'no workload is in it',
      hint: 'correct the labels',
    } as const;
    const checks = checkMesh({ ...well, status: { ...status, warnings: [warning] } });
    assert.equal(
      renderChecks(checks.filter(({ state }: MeshCheck) => state !== 'ok')),
      '! rules: Segment/batch: spec.members: no workload is in it (correct the labels)',
    );
  });
});
