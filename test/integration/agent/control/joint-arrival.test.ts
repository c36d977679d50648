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

type Situation = {
  /** Its first load fails. */
  readonly failing?: WorkloadName;
  /** An earlier run began with it. */
  readonly begun?: WorkloadName;
  readonly onLoad?: () => void;
  /** Its second load fails. */
  readonly isStuck?: (name: WorkloadName) => boolean;
  /** Whether workers have said how they listen. */
  readonly isAnswered?: () => boolean;
};

async function startWith({ failing, begun, onLoad, isStuck = () => false, isAnswered = () => true }: Situation = {}) {
  const places = new Map([
    [web, network.a],
    [db, network.b],
  ]);
  const file = new ChecksummedFile({
    path: path.join(directory, `captured-${++count}.json`),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  const entries = [...places].flatMap(([workload, { path: netnsPath }]) =>
    workload === begun ? [{ workload, netnsPath, netnsInode: netnsInode(netnsPath) ?? 0, addresses: [] }] : [],
  );
  const ledger = new CaptureLedger({ file, entries, log });
  let passed = (): void => undefined;
  const keeper = new WorkloadReconciler({
    capture: {
      whenInCharge: () => Promise.resolve(),
      apply: async ({ name, openTo }) => {
        steps.push(openTo === undefined ? name : `${name} open to ${openTo.join()}`);
        onLoad?.();
        if (openTo === undefined ? isStuck(name) : failing === name) throw new Error('iptables is locked');
      },
      release: async () => undefined,
      problemOf: () => null,
      letGo: async () => undefined,
      isHolding: () => false,
      removeLeftover: async () => undefined,
    },
    listeners: {
      setWorkloads: () => undefined,
      listeningOf: (name) => {
        if (!isAnswered()) return null;
        const inode = netnsInode(places.get(name)?.path ?? '') ?? 0;
        return { netnsInode: inode, error: null, late: { isOpen: false, problem: null } };
      },
      isListening: () => true,
    },
    ledger,
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

/** Each is open to the other's address alone, and then to none. */
function twoLoads(): string[] {
  return [`shop/web open to ${network.b.ip[4]}`, `shop/db open to ${network.a.ip[4]}`, 'shop/web', 'shop/db'];
}

test('workloads that come together are captured together, and meanwhile are open to each other alone', async () => {
  const { keeper, wanted, pass } = await startWith();
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, twoLoads());
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
  assert.deepEqual(steps, twoLoads());
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
  const { keeper, wanted, pass, problemOf } = await startWith({ failing: web });
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, twoLoads());
  assert.deepEqual([problemOf(web), problemOf(db)], [null, null]);
  await keeper.close();
});

test('an agent that is stopped between the two loads ends what it began', async () => {
  let stop = (): void => undefined;
  const { keeper, wanted } = await startWith({ onLoad: () => stop() });
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await new Promise<void>((resolve) => {
    stop = resolve;
    keeper.setWanted(wanted);
  });
  await keeper.close();
  assert.deepEqual(steps, twoLoads());
});

test('a second load that fails is tried again whatever else the workload would wait for', async () => {
  let stuck: WorkloadName | null = web;
  let isAnswered = true;
  const { keeper, wanted, pass } = await startWith({ isStuck: (name) => name === stuck, isAnswered: () => isAnswered });
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps.splice(0), twoLoads());
  [stuck, isAnswered] = [null, false];
  await pass(() => keeper.reconcile());
  assert.deepEqual(steps, ['shop/web']);
  await keeper.close();
});

test('what an agent that was killed between the two loads left open, the next one closes first', async () => {
  const { keeper, wanted, pass } = await startWith({ begun: web });
  servable.add(wanted.get(db)?.identity ?? '');
  await pass(() => keeper.setWanted(wanted));
  assert.deepEqual(steps, ['shop/web', 'shop/db'], 'without its certificate, and open to none');
  await keeper.close();
});

test('an address that a document names and the namespace does not have is let in nowhere', async () => {
  const { keeper, wanted, pass } = await startWith();
  for (const { identity } of wanted.values()) servable.add(identity ?? '');
  const lying = { ...wantedAt(network.b, 'db'), addresses: [network.x.ip[4], network.b.ip[6]] };
  await pass(() => keeper.setWanted(new Map([...wanted, [db, lying]])));
  assert.deepEqual(steps[0], `shop/web open to ${network.b.ip[6]}`);
  await keeper.close();
});
