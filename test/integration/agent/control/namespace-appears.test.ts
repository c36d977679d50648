import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, symlinkSync, watch as watchInotify, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { captureControl } from '../../../../agent/control/workloads/capture-control.js';
import { CaptureLedger } from '../../../../agent/control/workloads/capture-ledger.js';
import { NamespaceWatch } from '../../../../agent/control/workloads/namespace-watch.js';
import type { WantedWorkload } from '../../../../agent/control/workloads/own-workloads.js';
import { WorkloadReconciler } from '../../../../agent/control/workloads/workload-reconciler.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { workloadNamed } from '../../../support/routing/names.js';

type FSWatchOptions = { readonly persistent: boolean };
type FSWatchListener = (event: string, name: string | null) => void;

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const web = workloadNamed('shop/web');
const identity = formatSpiffeId({ trustDomain: 'test.local', namespace: 'shop', serviceAccount: 'web' });
const prefix = `cvw${randomBytes(3).toString('hex')}`;
const names: string[] = [];

let directory: string;
/** A watch alone does not keep a process alive. */
const isRunning = setInterval(() => undefined, 1000);
before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-appears-'));
});
after(async () => {
  clearInterval(isRunning);
  for (const name of names) execFileSync('ip', ['netns', 'del', name]);
  await rm(directory, { recursive: true });
});

function add(name: string): void {
  execFileSync('ip', ['netns', 'add', name]);
  names.push(name);
}

function remove(name: string): void {
  execFileSync('ip', ['netns', 'del', name]);
  names.splice(names.indexOf(name), 1);
}

/** Resolves at the next change. */
function watchOf(...paths: readonly string[]) {
  let changed = newDeferred();
  const watch = new NamespaceWatch({ log, onChange: () => changed.resolve() });
  watch.follow(paths);
  return {
    watch,
    next: async (): Promise<void> => {
      await changed.promise;
      changed = newDeferred();
    },
    [Symbol.dispose]: () => watch.close(),
  };
}

test(
  'a directory that could not be watched is watched later, and what is in it by then is seen',
  { timeout: 60_000 },
  async () => {
    const places = [path.join(directory, 'first'), path.join(directory, 'second')];
    for (const place of places) mkdirSync(place);
    const lacking = new Set(places);
    let changed = newDeferred();
    const watch = new NamespaceWatch({
      log,
      onChange: () => changed.resolve(),
      watchDirectory: ((place: string, ...rest: [FSWatchOptions, FSWatchListener]) => {
        if (lacking.has(place)) throw Object.assign(new Error('no watch is left'), { code: 'ENOSPC' });
        return watchInotify(place, ...rest);
      }) as typeof watchInotify,
    });
    try {
      watch.follow(places.map((place) => path.join(place, 'netns')));
      assert.match(watch.problem ?? '', /first cannot be watched: no watch is left/);
      lacking.delete(places[0]!);
      watch.retry();
      assert.match(watch.problem ?? '', /second cannot be watched/, 'one that works hides no other');
      const name = `${prefix}r`;
      add(name);
      symlinkSync(`/run/netns/${name}`, path.join(places[1]!, 'netns'));
      lacking.clear();
      watch.retry();
      await changed.promise;
      assert.equal(watch.problem, null);
      changed = newDeferred();
      rmSync(path.join(places[1]!, 'netns'));
      await changed.promise;
    } finally {
      watch.close();
    }
  },
);

test('a namespace is seen when it appears, goes, and is there again', { timeout: 60_000 }, async () => {
  const name = `${prefix}a`;
  using watched = watchOf(`/run/netns/${name}`);
  const other = `${prefix}b`;
  for (let round = 0; round < 2; round++) {
    add(other);
    add(name);
    await watched.next();
    assert.notEqual(netnsInode(`/run/netns/${name}`), undefined);
    remove(name);
    await watched.next();
    assert.equal(netnsInode(`/run/netns/${name}`), undefined);
    remove(other);
  }
  assert.equal(watched.watch.problem, null);
});

test('directories that do not exist yet, and ones that go, hide no namespace', { timeout: 60_000 }, async () => {
  const parent = path.join(directory, 'runtime');
  const place = path.join(parent, 'netns/web');
  const name = `${prefix}c`;
  add(name);
  using watched = watchOf(place, '/proc/1/ns/net');
  for (let round = 0; round < 2; round++) {
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, '');
    execFileSync('mount', ['--bind', `/run/netns/${name}`, place]);
    await watched.next();
    assert.equal(netnsInode(place), netnsInode(`/run/netns/${name}`));
    execFileSync('umount', [place]);
    rmSync(parent, { recursive: true });
    await watched.next();
  }
});

test('a new namespace is closed before anything that its workload waits for', { timeout: 60_000 }, async (t) => {
  const name = `${prefix}d`;
  const file = new ChecksummedFile({
    path: path.join(directory, 'captured.json'),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  const capture = new WorkloadCapture({ log });
  let closed = newDeferred();
  const scheduler = new FakeScheduler();
  const control = captureControl(capture, Promise.resolve());
  const reconciler = new WorkloadReconciler({
    capture: {
      ...control,
      apply: async (workload) => {
        await control.apply(workload);
        assert.equal(workload.isClosed, true);
        closed.resolve();
      },
    },
    // Nothing listens, and no pass of the scheduler's comes.
    listeners: { setWorkloads: () => undefined, listeningOf: () => null, isListening: () => false },
    ledger: new CaptureLedger({ file, entries: [], log }),
    scheduler,
    log,
    captureWaitMs: 60_000,
    isServable: () => false,
    isRegistryComplete: () => true,
    onChange: () => undefined,
    ownInode: 0,
    ownCgroup: null,
  });
  const wanted: WantedWorkload = { identity, netns: name, addresses: [], capture: noExclusions };
  reconciler.setWanted(new Map([[web, wanted]]));
  for (let round = 0; round < 3; round++) {
    add(name);
    const startedAtMs = performance.now();
    await closed.promise;
    t.diagnostic(`closed ${(performance.now() - startedAtMs).toFixed(1)} ms after ip netns add`);
    const rules = execFileSync('nsenter', [`--net=/run/netns/${name}`, 'sh', '-c', 'iptables-save; ip6tables-save']);
    assert.equal(rules.toString().match(/^-A CULVERT_(PREROUTING|OUTPUT) .*"culvert:closed" -j DROP$/gm)?.length, 4);
    assert.equal(reconciler.statuses()[0]?.captured, false);
    closed = newDeferred();
    remove(name);
  }
  assert.equal(reconciler.watchProblem, null);
  await reconciler.close();
  await reconciler.releaseAll();
  await capture.close();
});
