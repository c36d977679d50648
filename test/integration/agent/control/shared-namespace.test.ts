import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { CaptureLedger, type LedgerEntry } from '../../../../agent/control/workloads/capture-ledger.js';
import type { WantedWorkload } from '../../../../agent/control/workloads/own-workloads.js';
import { findWorkloadNamespaces, type Holders } from '../../../../agent/control/workloads/workload-namespaces.js';
import { WorkloadReconciler } from '../../../../agent/control/workloads/workload-reconciler.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import type { IpAddress } from '../../../../shared/address.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import type { WorkloadName } from '../../../../shared/routing/names.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { workloadNamed } from '../../../support/routing/names.js';

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const [owner, thief] = [workloadNamed('shop/owner'), workloadNamed('evil/thief')];
const elsewhere = '203.0.113.9' as IpAddress;

let network: CaptureNetwork;
let directory: string;
/** Another path to namespace `a`. */
let alias: string;
let inode: number;
let count = 0;
before(async () => {
  network = new CaptureNetwork();
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-shared-'));
  alias = path.join(directory, 'alias');
  await symlink(network.a.path, alias);
  inode = netnsInode(network.a.path) ?? 0;
});
after(async () => {
  await network[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

type Claim = readonly [name: WorkloadName, netns: string, address: IpAddress];
const none: Holders = { hasCaptured: () => false, isInLedger: () => false, isHeld: () => false };

test('a namespace that two workloads name stays with the one that has it, and new ones get it by a stable rule', () => {
  const winner = (claims: readonly Claim[], holders: Partial<Holders> = {}): string => {
    const results = [claims, claims.toReversed()].map((these) => {
      const wanted = new Map(these.map(([name, netns, address]) => [name, { netns, addresses: [address] }]));
      const { found, problems } = findWorkloadNamespaces(wanted, { ownInode: 0, holders: { ...none, ...holders } });
      const [first = ''] = found.keys();
      assert.equal(found.size + problems.size, claims.length);
      for (const problem of problems.values())
        assert.ok(problem.endsWith(`is already the network namespace of ${first}`));
      return first;
    });
    assert.equal(results[0], results[1], 'the order of the documents plays no part');
    return results[0] ?? '';
  };
  const isOwner = (name: WorkloadName): boolean => name === owner;
  const isThief = (name: WorkloadName): boolean => name === thief;
  const [at, real] = [network.a.path, network.a.ip[4]];
  const thiefIsBetter: readonly Claim[] = [
    [owner, alias, elsewhere],
    [thief, at, real],
  ];
  assert.equal(winner(thiefIsBetter, { hasCaptured: isOwner, isInLedger: isThief }), owner);
  assert.equal(winner(thiefIsBetter, { isInLedger: isOwner, isHeld: isThief }), owner);
  assert.equal(winner(thiefIsBetter, { isHeld: isOwner }), owner);
  assert.equal(
    winner([
      [owner, alias, network.a.ip[6]],
      [thief, at, elsewhere],
    ]),
    owner,
    'it has the address',
  );
  assert.equal(
    winner([
      [owner, at, elsewhere],
      [thief, alias, elsewhere],
    ]),
    owner,
    'it names it in /run/netns',
  );
  assert.equal(
    winner([
      [owner, at, elsewhere],
      [thief, at, elsewhere],
    ]),
    thief,
    'it is the first by name',
  );
});

/** What the reconciler asks for, and who the fake capture has. */
let steps: string[];
let holding: Map<WorkloadName, 'captured' | 'draining'>;
beforeEach(() => {
  steps = [];
  holding = new Map();
});

async function startWith(o: { ledger?: readonly WorkloadName[]; isListening?: () => boolean } = {}) {
  const file = new ChecksummedFile({
    path: path.join(directory, `captured-${++count}.json`),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  const entries = (o.ledger ?? []).map((workload): LedgerEntry => ({
    workload,
    netnsPath: network.a.path,
    netnsInode: inode,
    addresses: [],
  }));
  const ledger = new CaptureLedger({ file, entries, log });
  let passed = (): void => undefined;
  const keeper = new WorkloadReconciler({
    capture: {
      whenInCharge: () => Promise.resolve(),
      followCgroup: () => Promise.resolve(undefined),
      expect: () => undefined,
      apply: async ({ name, isClosed }) => {
        assert.ok([...holding.keys()].every((each) => each === name));
        holding.set(name, 'captured');
        steps.push(`${isClosed === true ? 'close' : 'capture'} ${name}`);
      },
      release: async (name) => {
        if (!holding.has(name)) return;
        holding.set(name, 'draining');
        steps.push(`release ${name}`);
      },
      letGo: async (name) => {
        if (holding.delete(name)) steps.push(`let go ${name}`);
      },
      problemOf: () => null,
      isHolding: (name) => holding.has(name),
      isRuled: async () => true,
      removeLeftover: async ({ workload }) => void steps.push(`clean ${workload}`),
    },
    listeners: {
      setWorkloads: () => undefined,
      listeningOf: () =>
        o.isListening?.() === false ? null : { netnsInode: inode, error: null, late: { isOpen: false, problem: null } },
      isListening: () => true,
    },
    ledger,
    scheduler: new FakeScheduler(),
    log,
    captureWaitMs: 60_000,
    isServable: () => true,
    isRegistryComplete: () => true,
    onChange: () => passed(),
    ownInode: 0,
    ownCgroup: null,
  });
  const want = async (...claims: readonly Claim[]): Promise<void> => {
    const wanted = claims.map(([name, netns, address]): [WorkloadName, WantedWorkload] => {
      const serviceAccount = name.split('/')[1] ?? '';
      const identity = formatSpiffeId({ trustDomain: 'test.local', namespace: 'shop', serviceAccount });
      return [name, { identity, netns, addresses: [address], capture: noExclusions }];
    });
    const isOver = new Promise<void>((resolve) => (passed = resolve));
    keeper.setWanted(new Map(wanted));
    await isOver;
    await new Promise((resolve) => setImmediate(resolve));
  };
  const inLedger = (): string => ledger.entries.map(({ workload }) => workload).join();
  return { keeper, want, inLedger, statusOf: (name: WorkloadName) => keeper.statuses().find((s) => s.name === name) };
}

test('a second registration takes a namespace from its owner neither at once nor after a restart', async () => {
  for (const ledger of [[], [owner]]) {
    steps = [];
    holding = new Map();
    const { keeper, want, statusOf, inLedger } = await startWith({ ledger });
    if (ledger.length === 0) await want([owner, alias, elsewhere]);
    await want([thief, network.a.path, network.a.ip[4]], [owner, alias, elsewhere]);
    assert.deepEqual(
      steps,
      ledger.length === 0 ? [`close ${owner}`, `capture ${owner}`] : [`capture ${owner}`],
      'nothing is released, cleaned or loaded for another',
    );
    assert.match(statusOf(thief)?.problem ?? '', /already the network namespace of shop\/owner/);
    assert.deepEqual([statusOf(thief)?.captured, statusOf(owner)?.captured], [false, true]);
    assert.equal(inLedger(), owner);
    await keeper.close();
  }
});

test('when the owner leaves, the other one takes over its capture without a gap', async () => {
  let isListening = true;
  const { keeper, want, inLedger } = await startWith({ isListening: () => isListening });
  await want([owner, network.a.path, network.a.ip[4]]);
  isListening = false;
  await want([thief, alias, elsewhere]);
  assert.deepEqual(steps, [`close ${owner}`, `capture ${owner}`], 'it keeps its rules until the other one is ready');
  isListening = true;
  await want([thief, alias, elsewhere]);
  assert.deepEqual(steps.slice(2), [`let go ${owner}`, `capture ${thief}`]);
  assert.equal(inLedger(), thief);
  await keeper.close();
});

test('when both leave before the other one took over, the capture ends', async () => {
  let isListening = true;
  const { keeper, want } = await startWith({ isListening: () => isListening });
  await want([owner, network.a.path, network.a.ip[4]]);
  isListening = false;
  await want([thief, alias, elsewhere]);
  await want();
  assert.deepEqual(steps, [`close ${owner}`, `capture ${owner}`, `release ${owner}`]);
  await keeper.close();
});

test('a workload that names its namespace by another path stays captured', async () => {
  const { keeper, want } = await startWith();
  await want([owner, network.a.path, network.a.ip[4]]);
  await want([owner, alias, network.a.ip[4]]);
  assert.deepEqual(steps, [`close ${owner}`, `capture ${owner}`, `capture ${owner}`]);
  await keeper.close();
});

test('a workload gets a namespace at once in which another one drains, and what an earlier run left there', async () => {
  const { keeper, want, inLedger } = await startWith();
  await want([owner, network.a.path, network.a.ip[4]]);
  await want();
  await want([thief, network.a.path, elsewhere]);
  assert.deepEqual(steps.slice(2), [`release ${owner}`, `let go ${owner}`, `close ${thief}`, `capture ${thief}`]);
  assert.equal(inLedger(), thief);
  await keeper.close();
  steps = [];
  holding = new Map();
  const next = await startWith({ ledger: [owner] });
  await next.want([thief, network.a.path, elsewhere]);
  assert.deepEqual(steps, [`capture ${thief}`], 'rules are never taken out in between');
  assert.equal(next.inLedger(), thief);
  await next.keeper.close();
});
