import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readiness, type ReadinessFacts } from '../../../../agent/admin/readiness.js';
import { servedWorkload } from '../../../support/agent/served-workload.js';

const nowMs = 1_800_000_000_000;
const workload = servedWorkload(nowMs);
/** The chain of the workload's certificate with another life. */
function chain(life: {
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}): typeof workload.certificateChain {
  return { ...workload.certificateChain, ...life };
}
const ready: ReadinessFacts = {
  isJoined: true,
  joinProblem: null,
  isNatsConnected: true,
  natsProblem: null,
  appliedRevision: 3,
  enforcedRevision: 3,
  isRegistryComplete: true,
  missingEntries: 0,
  unreadableEntries: 0,
  workers: { online: 2, wanted: 2 },
  workloads: [workload],
  guardProblem: null,
  rulesAgeProblem: null,
  isRefusingOldRules: false,
  alarms: null,
  exemptionProblem: null,
  watchProblem: null,
  credentialsProblem: null,
  hostRulesProblem: null,
  stateProblem: null,
  successionProblem: null,
  endpointProblem: null,
  filesProblem: null,
  failModeProblem: null,
  nowMs,
};

const cases: readonly [string, Partial<ReadinessFacts>, readonly string[], readonly string[]][] = [
  ['everything is in place', {}, [], []],
  [
    'nothing has happened yet',
    {
      isJoined: false,
      isNatsConnected: false,
      appliedRevision: null,
      enforcedRevision: null,
      isRegistryComplete: false,
      workers: { online: 0, wanted: 2 },
      workloads: [],
    },
    ['joined', 'workers', 'nats', 'rules', 'registry'],
    [],
  ],
  ['entries that are listed did not come', { missingEntries: 2 }, ['registry'], []],
  ['entries of a newer controller cannot be read', { missingEntries: 1, unreadableEntries: 1 }, ['registry'], []],
  ['NATS is away but the last good state is there', { isNatsConnected: false }, [], ['nats']],
  ['the rules have not reached the workers', { enforcedRevision: null }, ['rules'], []],
  ['one of two workers is being replaced', { workers: { online: 1, wanted: 2 } }, [], ['workers']],
  [
    'a certificate is missing',
    { workloads: [{ ...workload, certificateNotAfterMs: null }] },
    ['certificate/shop/web'],
    [],
  ],
  [
    'a certificate has expired',
    { workloads: [{ ...workload, certificateNotAfterMs: nowMs }] },
    ['certificate/shop/web'],
    [],
  ],
  [
    'the entry of a workload cannot be read',
    { workloads: [{ ...workload, identity: null, certificateNotAfterMs: null, certificateChain: null }] },
    ['registry/shop/web'],
    [],
  ],
  ['a renewal failed', { workloads: [{ ...workload, certificateProblem: 'no answer' }] }, [], ['certificate/shop/web']],
  ['a workload is not captured', { workloads: [{ ...workload, captured: false }] }, ['capture/shop/web'], []],
  ['a change of its capture failed', { workloads: [{ ...workload, problem: 'exclusion' }] }, [], ['capture/shop/web']],
  [
    'its rules are missing',
    { workloads: [{ ...workload, problem: 'flushed', captureProblem: 'flushed' }] },
    ['capture/shop/web'],
    [],
  ],
  [
    'no worker listens for it',
    { workloads: [{ ...workload, isListening: false, problem: 'EADDRINUSE' }] },
    ['listener/shop/web'],
    [],
  ],
  [
    'one of two workers does not listen for it',
    { workloads: [{ ...workload, problem: 'its listeners are not open yet' }] },
    [],
    ['capture/shop/web'],
  ],
  [
    'a certificate begins later',
    { workloads: [{ ...workload, certificateChain: chain({ notBeforeMs: nowMs + 1 }) }] },
    ['certificate/shop/web'],
    [],
  ],
  [
    'a certificate above it has expired',
    { workloads: [{ ...workload, certificateChain: chain({ notAfterMs: nowMs }) }] },
    ['certificate/shop/web'],
    [],
  ],
  [
    'no root verifies a certificate',
    { workloads: [{ ...workload, certificateChain: null }] },
    ['certificate/shop/web'],
    [],
  ],
  [
    'a certificate has expired while NATS is away',
    { isNatsConnected: false, workloads: [{ ...workload, certificateNotAfterMs: nowMs }] },
    ['certificate/shop/web'],
    ['nats'],
  ],
  ['new rules are refused', { alarms: { rulesAlarm: 'older', registryAlarm: null, passedOver: [] } }, [], ['rules']],
  [
    'a part of the registry is refused',
    { alarms: { rulesAlarm: null, registryAlarm: 'older', passedOver: [] } },
    [],
    ['registry'],
  ],
  ['the rules may be old', { rulesAgeProblem: 'not confirmed' }, [], ['rules-age']],
  [
    'connections are refused because the rules may be old',
    { rulesAgeProblem: 'not confirmed', isRefusingOldRules: true },
    ['rules-age'],
    [],
  ],
  ['the node was not renewed', { credentialsProblem: 'removed' }, [], ['credentials']],
  ["the host's rules for probes are damaged", { hostRulesProblem: 'flushed' }, [], ['capture']],
  ['namespaces cannot be watched', { watchProblem: 'ENOSPC' }, [], ['namespaces']],
  ['the disk is full', { stateProblem: 'no space left' }, [], ['state']],
  ['an endpoint does not listen', { endpointProblem: 'address already in use' }, [], ['endpoints']],
  ['fail mode open has no supervisor', { failModeProblem: 'no effect' }, [], ['fail-mode']],
  ['no other process can take over', { successionProblem: 'no space left' }, [], ['succession']],
];

for (const [situation, change, pending, degraded] of cases) {
  test(`when ${situation}, readiness says so`, () => {
    const report = readiness({ ...ready, ...change });
    assert.deepEqual(
      report.pending.map((task) => task.name),
      pending,
    );
    assert.deepEqual(
      report.degraded.map((task) => task.name),
      degraded,
    );
    assert.equal(report.isReady, pending.length === 0);
    for (const task of [...report.pending, ...report.degraded]) assert.notEqual(task.detail, '');
  });
}
