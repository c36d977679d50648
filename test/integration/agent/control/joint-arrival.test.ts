import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { CaptureLedger } from '../../../../agent/control/workloads/capture-ledger.js';
import type { WantedWorkload } from '../../../../agent/control/workloads/own-workloads.js';
import { WorkloadReconciler } from '../../../../agent/control/workloads/workload-reconciler.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import type { WorkloadName } from '../../../../shared/routing/names.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { workloadNamed } from '../../../support/routing/names.js';

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const [web, db] = [workloadNamed('shop/web'), workloadNamed('shop/db')];

let network: CaptureNetwork;
let directory: string;
let count = 0;
before(async () => {
  network = new CaptureNetwork();
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-joint-'));
});
after(async () => {
  await network[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** Each step that the reconciler asks for; nothing is captured. */
let steps: string[];
let servable: Set<string>;
let scheduler: FakeScheduler;
beforeEach(() => {
  steps = [];
  servable = new Set();
  scheduler = new FakeScheduler();
});

function wantedAt(place: NetworkPlace, serviceAccount: string): WantedWorkload {
  const identity = formatSpiffeId({ trustDomain: 'test.local', namespace: 'shop', serviceAccount });
  return { identity, netns: place.path, addresses: [place.ip[4]], capture: noExclusions };
}

async function startWith(failure: { outboundOf?: WorkloadName } = {}) {
  const places = new Map([
    [web, network.a],
    [db, network.b],
  ]);
  const file = new ChecksummedFile({
    path: path.join(directory, `captured-${++count}.json`),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  let passed = (): void => undefined;
  const keeper = new WorkloadReconciler({
    capture: {
      whenInCharge: () => Promise.resolve(),
      apply: async ({ name, isInboundOpen }) => {
        const isOutboundOnly = isInboundOpen === true;
        steps.push(isOutboundOnly ? `outbound ${name}` : name);
        if (isOutboundOnly && failure.outboundOf === name) throw new Error('iptables is locked');
      },
      release: async () => undefined,
      problemOf: () => null,
      isHolding: () => false,
      removeLeftover: async () => undefined,
    },
    listeners: {
      setWorkloads: () => undefined,
      listeningOf: (name) => {
        const inode = netnsInode(places.get(name)?.path ?? '') ?? 0;
        return { netnsInode: inode, error: null, late: { isOpen: false, problem: null } };
      },
      isListening: () => true,
    },
    ledger: new CaptureLedger({ file, entries: [], log }),
    scheduler,
    log,
    captureWaitMs: 60_000,
    isServable: (identity) => servable.has(identity),
    isRegistryComplete: () => true,
    onChange: () => passed(),
    ownInode: 0,
  });
  const pass = async (start: () => void): Promise<void> => {
    const isOver = new Promise<void>((resolve) => (passed = resolve));
    start();
    await isOver;
    await new Promise((resolve) => setImmediate(resolve));
  };
  const wanted = new Map([
    [web, wantedAt(network.a, 'web')],
    [db, wantedAt(network.b, 'db')],
  ]);
  const problemOf = (name: WorkloadName): string | null =>
    keeper.statuses().find((status) => status.name === name)?.problem ?? null;
  return { keeper, wanted, pass, problemOf };
}

test('workloads that come together are captured together: first what they send, then what they get', async () => {
  const { keeper, wanted, pass } = await startWith();
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, ['outbound shop/web', 'outbound shop/db', 'shop/web', 'shop/db']);
  await pass(() => keeper.reconcile());
  assert.equal(steps.length, 4, 'nothing to do is nothing done');
  await keeper.close();
});

test('one that is ready waits for the other, and says so', async () => {
  const { keeper, wanted, pass, problemOf } = await startWith();
  servable.add(wanted.get(web)?.identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, []);
  assert.match(problemOf(web) ?? '', /captured together with shop\/db, which is not ready yet/);
  servable.add(wanted.get(db)?.identity ?? '');
  await pass(() => keeper.reconcile());
  assert.deepEqual(steps, ['outbound shop/web', 'outbound shop/db', 'shop/web', 'shop/db']);
  assert.deepEqual([problemOf(web), problemOf(db)], [null, null]);
  await keeper.close();
});

test('one that is ready waits for two seconds at most', async () => {
  const { keeper, wanted, pass } = await startWith();
  servable.add(wanted.get(web)?.identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.equal(scheduler.nextInMs, 2000);
  await pass(() => scheduler.runNext());
  assert.deepEqual(steps, ['shop/web'], 'alone, so in one step');
  servable.add(wanted.get(db)?.identity ?? '');
  await pass(() => keeper.reconcile());
  assert.deepEqual(steps, ['shop/web', 'shop/db']);
  await keeper.close();
});

test('one whose first step fails keeps no other out, nor itself', async () => {
  const { keeper, wanted, pass, problemOf } = await startWith({ outboundOf: web });
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, ['outbound shop/web', 'outbound shop/db', 'shop/web', 'shop/db']);
  assert.deepEqual([problemOf(web), problemOf(db)], [null, null]);
  await keeper.close();
});
