import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { CaptureLedger } from '../../../../agent/control/workloads/capture-ledger.js';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { ownNetnsInode } from '../../../../agent/native/netns.js';
import { WorkloadReconciler } from '../../../../agent/control/workloads/workload-reconciler.js';
import type { WantedWorkload } from '../../../../agent/control/workloads/own-workloads.js';
import type { IpAddress } from '../../../../shared/address.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import type { WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { workloadName, type WorkloadName } from '../../../../shared/routing/names.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import type { LateAcceptState } from '../../../../agent/dataplane/messages.js';

const notLate: LateAcceptState = { isOpen: false, problem: null };
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
let directory = '';
let namespaceInode = 0;
let count = 0;
before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-workloads-'));
  namespaceInode = ownNetnsInode();
});
after(async () => {
  await rm(directory, { recursive: true });
});

/** A workload whose namespace is the one that the test runs in: it is only looked at, never entered. */
function entryOf(netns = '/proc/self/ns/net'): WorkloadEntry {
  return {
    kind: 'workload',
    namespace: 'shop',
    name: 'web',
    serviceAccount: 'web',
    identity: formatSpiffeId({ trustDomain: 'test.local', namespace: 'shop', serviceAccount: 'web' }),
    labels: {},
    addresses: ['198.18.10.2' as IpAddress],
    node: nodeNamed('node1'),
    netns,
    protocol: 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
  };
}

/** Writes down in which order the keeper asks for what. The doors themselves are tested on real namespaces elsewhere. */
class Recorder {
  readonly steps: string[] = [];
  readonly scheduler = new FakeScheduler();
  listening: { netnsInode: number; error: string | null; late: LateAcceptState } | null = null;
  isServable = false;
  isRegistryComplete = true;
  /** Of which the workers know that they have rules. */
  ruled: readonly WorkloadName[] = [];
  #listened = -1;
  /** Call: no other agent manages the host any more. */
  takeCharge = (): void => undefined;
  /** Whether the rules that the ledger names are still there. */
  isRuled = true;
  /** Inodes of the cgroups to which the agent is moved. */
  readonly movedTo: number[] = [];
  readonly ledger: CaptureLedger;
  captureFailure: string | null = null;
  /** What loading rules waits for. */
  hanging: Promise<void> | null = null;
  lateRulesFailure: string | null = null;
  readonly keeper: WorkloadReconciler;
  #passed: (() => void) | null = null;

  constructor(
    o: {
      leftover?: { workload: WorkloadName; netnsPath: string; netnsInode: number; boot?: string; ownCgroup?: number };
      ownInode?: number;
      ownCgroup?: number;
      isSuccessor?: boolean;
    } = {},
  ) {
    const file = new ChecksummedFile({
      path: path.join(directory, `captured-${++count}.json`),
      parse: (value) => capturedNamespacesSchema.parse(value),
    });
    const entries = o.leftover === undefined ? [] : [{ ...o.leftover, addresses: [] }];
    const inCharge = new Promise<void>((resolve) => (this.takeCharge = resolve));
    if (o.isSuccessor !== true) this.takeCharge();
    this.ledger = new CaptureLedger({ file, entries, log });
    this.keeper = new WorkloadReconciler({
      capture: {
        whenInCharge: () => inCharge,
        followCgroup: async () => this.movedTo.shift(),
        expect: () => undefined,
        apply: async ({ name, latePorts, isClosed }) => {
          await this.hanging;
          if (this.captureFailure !== null) throw new Error(this.captureFailure);
          if (latePorts !== undefined && this.lateRulesFailure !== null) throw new Error(this.lateRulesFailure);
          this.steps.push(
            `${isClosed === true ? 'close' : 'capture'} ${name}${latePorts === undefined ? '' : ` late ${latePorts.join()}`}`,
          );
        },
        release: async (name) => void this.steps.push(`release ${name}`),
        problemOf: () => null,
        letGo: async () => undefined,
        isHolding: () => false,
        isRuled: async () => this.isRuled,
        removeLeftover: async ({ workload }) => void this.steps.push(`clean ${workload}`),
      },
      listeners: {
        setWorkloads: (workloads) => {
          const ruled = workloads.filter(({ hasRules }) => hasRules === true).map(({ name }) => name);
          if (ruled.join() !== this.ruled.join()) {
            this.ruled = ruled;
            if (workloads.length === this.#listened) return;
          }
          this.#listened = workloads.length;
          const names = workloads.map(({ name, acceptsLate }) => (acceptsLate === true ? `${name} late` : name));
          this.steps.push(`listen [${names.join()}]`);
        },
        listeningOf: () => this.listening,
        isListening: () => this.listening !== null,
      },
      ledger: this.ledger,
      scheduler: this.scheduler,
      log,
      captureWaitMs: 5000,
      isServable: () => this.isServable,
      isRegistryComplete: () => this.isRegistryComplete,
      onChange: () => this.#passed?.(),
      ownInode: o.ownInode ?? 0,
      ownCgroup: o.ownCgroup ?? null,
    });
  }

  async want(...entries: readonly (Omit<WorkloadEntry, 'identity'> & WantedWorkload)[]): Promise<void> {
    await this.#pass(() => this.keeper.setWanted(new Map(entries.map((entry) => [workloadName(entry), entry]))));
  }

  async wantLate(...ports: readonly number[]): Promise<void> {
    await this.#pass(() => this.keeper.setLatePorts(ports));
  }

  /** The pass that comes every 2 s. */
  async tick(): Promise<void> {
    await this.#pass(() => this.scheduler.runNext());
  }

  get problem(): string | null {
    return this.keeper.statuses()[0]?.problem ?? null;
  }

  async #pass(start: () => void): Promise<void> {
    const passed = new Promise<void>((resolve) => (this.#passed = resolve));
    start();
    await passed;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What an earlier run says that it captured: this process's namespace. */
function leftoverOf(name: string) {
  return { workload: workloadNamed(name), netnsPath: '/proc/self/ns/net', netnsInode: namespaceInode };
}

test('a workload is captured only after its listeners are open and it can be served', async () => {
  const recorder = new Recorder();
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web']);
  assert.match(recorder.problem ?? '', /listeners are not open/);
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web']);
  assert.match(recorder.problem ?? '', /rules and its certificate/);
  recorder.isServable = true;
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web', 'capture shop/web']);
  assert.equal(recorder.problem, null);
  await recorder.tick();
  assert.equal(recorder.steps.length, 3, 'nothing to do is nothing done');
  await recorder.keeper.close();
});

test('a workload that gets no certificate in time is captured all the same', async () => {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.want(entryOf());
  for (let elapsedMs = 0; elapsedMs < 6000; elapsedMs += 2000) {
    assert.ok(!recorder.steps.includes('capture shop/web'), `not after ${elapsedMs} ms`);
    await recorder.tick();
  }
  assert.ok(recorder.steps.includes('capture shop/web'));
  await recorder.keeper.close();
});

test('a workload whose entry cannot be read is captured as soon as something listens, and has no identity', async () => {
  const recorder = new Recorder();
  await recorder.want({ ...entryOf(), identity: null });
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web']);
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web', 'capture shop/web']);
  const [status] = recorder.keeper.statuses();
  assert.deepEqual([status?.captured, status?.identity], [true, null]);
  await recorder.keeper.close();
});

test('a namespace that an earlier run captured does not wait for a certificate', async () => {
  const leftover = leftoverOf('shop/web');
  const recorder = new Recorder({ leftover });
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'capture shop/web']);
  await recorder.keeper.close();
});

test('rules that exempt the sockets of another cgroup are loaded before anything listens', async () => {
  const leftover = { ...leftoverOf('shop/web'), ownCgroup: 7 };
  const recorder = new Recorder({ leftover, ownCgroup: 8 });
  recorder.keeper.setLatePorts([80]);
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps, ['listen []', 'capture shop/web late 80', 'listen [shop/web late]']);
  await recorder.keeper.close();
  const same = new Recorder({ leftover, ownCgroup: 7 });
  same.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await same.want(entryOf());
  assert.deepEqual(same.steps, ['listen [shop/web]', 'capture shop/web']);
  await same.keeper.close();
});

test('an agent that takes over listens only with rules of its own where those of the one before exempt another cgroup', async () => {
  const leftover = { ...leftoverOf('shop/web'), ownCgroup: 7 };
  const recorder = new Recorder({ leftover, ownCgroup: 8, isSuccessor: true });
  const waitsForCharge = (): boolean | undefined => recorder.keeper.statuses()[0]?.waitsForCharge;
  await recorder.want(entryOf());
  assert.equal(waitsForCharge(), false, 'without a certificate the other one goes on');
  recorder.isServable = true;
  for (let waitedMs = 0; waitedMs < 10_000; waitedMs += 2000) await recorder.tick();
  assert.deepEqual([recorder.steps, waitsForCharge()], [['listen []'], true]);
  recorder.takeCharge();
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen []', 'capture shop/web', 'listen [shop/web]']);
  assert.equal(waitsForCharge(), false);
  await recorder.keeper.close();
});

test('the cgroup is looked at in each pass, and the ledger has the one that the agent was moved to', async () => {
  const recorder = new Recorder({ ownCgroup: 7 });
  recorder.isServable = true;
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.want(entryOf());
  await recorder.tick();
  assert.deepEqual(
    recorder.ledger.entries.map(({ ownCgroup }) => ownCgroup),
    [7],
  );
  recorder.movedTo.push(8);
  await recorder.tick();
  assert.deepEqual(
    recorder.ledger.entries.map(({ ownCgroup }) => ownCgroup),
    [8],
  );
  await recorder.keeper.close();
});

test('rules that exempt others and cannot be loaded do not keep a workload from being served for ever', async () => {
  const leftover = { ...leftoverOf('shop/web'), ownCgroup: 7 };
  const recorder = new Recorder({ leftover, ownCgroup: 8 });
  recorder.captureFailure = 'no';
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps.splice(0), ['listen []']);
  for (let pass = 0; pass < 3; pass++) await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen [shop/web]']);
  await recorder.keeper.close();
});

test('a namespace whose rules went while no agent ran is closed, whatever the ledger says', async () => {
  const recorder = new Recorder({ leftover: { ...leftoverOf('shop/web'), ownCgroup: 7 }, ownCgroup: 8 });
  recorder.isRuled = false;
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps.slice(0, 2), ['listen [shop/web]', 'close shop/web']);
  await recorder.keeper.close();
});

test('a clock that is set back keeps nothing waiting', async () => {
  const recorder = new Recorder({ leftover: { ...leftoverOf('shop/web'), ownCgroup: 7 }, ownCgroup: 8 });
  recorder.captureFailure = 'no';
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps.splice(0), ['listen []']);
  recorder.scheduler.setClock(recorder.scheduler.nowMs() - 3_600_000);
  for (let pass = 0; pass < 3; pass++) await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen [shop/web]']);
  await recorder.keeper.close();
});

test('a clock that is set forward cuts no wait short', async () => {
  const recorder = new Recorder({ leftover: { ...leftoverOf('shop/web'), ownCgroup: 7 }, ownCgroup: 8 });
  recorder.captureFailure = 'no';
  await recorder.want(entryOf());
  recorder.steps.length = 0;
  recorder.scheduler.setClock(recorder.scheduler.nowMs() + 3_600_000);
  await recorder.tick();
  assert.deepEqual(recorder.steps, []);
  await recorder.keeper.close();
});

test('a namespace with the inode of one before the machine started again is a new one', async () => {
  const leftover = { ...leftoverOf('shop/web'), boot: 'another' };
  const recorder = new Recorder({ leftover });
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps, ['listen [shop/web]', 'close shop/web']);
  await recorder.keeper.close();
});

test('on the way out the capture goes before the listeners', async () => {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.isServable = true;
  await recorder.want(entryOf());
  recorder.steps.length = 0;
  await recorder.want();
  assert.deepEqual(recorder.steps, ['release shop/web', 'listen []', 'clean shop/web']);
  await recorder.keeper.close();
});

test('what an earlier run left in a namespace that is not wanted any more is cleaned', async () => {
  const leftover = leftoverOf('shop/old');
  const recorder = new Recorder({ leftover });
  await recorder.want();
  assert.deepEqual(recorder.steps, ['listen []', 'clean shop/old']);
  await recorder.keeper.close();
});

test('an agent that is to take over accepts nothing that it would have to refuse', async () => {
  const recorder = new Recorder({ isSuccessor: true });
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps, ['listen []'], 'without a certificate');
  recorder.isServable = true;
  recorder.isRegistryComplete = false;
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen []'], 'without the whole registry');
  recorder.isRegistryComplete = true;
  await recorder.tick();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen []', 'listen [shop/web]'], 'and it changes no rules yet');
  recorder.takeCharge();
  await recorder.tick();
  assert.deepEqual(recorder.steps.at(-1), 'capture shop/web');
  await recorder.keeper.close();
});

test('what an agent that takes over misses for 5 s, it waits for no longer', async () => {
  const recorder = new Recorder({ isSuccessor: true });
  await recorder.want(entryOf());
  for (let waitedMs = 0; waitedMs < 5000; waitedMs += 2000) await recorder.tick();
  assert.deepEqual(recorder.steps, ['listen []', 'listen [shop/web]']);
  await recorder.keeper.close();
});

test('a capture that fails is tried again and named', async () => {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.isServable = true;
  recorder.captureFailure = 'iptables is locked';
  await recorder.want(entryOf());
  assert.match(recorder.problem ?? '', /iptables is locked/);
  assert.equal(recorder.keeper.statuses()[0]?.hasFailed, true);
  recorder.captureFailure = null;
  await recorder.tick();
  assert.equal(recorder.problem, null);
  assert.equal(recorder.keeper.statuses()[0]?.hasFailed, false);
  await recorder.keeper.close();
});

test('an agent that lets go during a pass begins with no further namespace', async () => {
  const leftover = leftoverOf('shop/old');
  const recorder = new Recorder({ leftover });
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.isServable = true;
  recorder.keeper.setWanted(new Map([[workloadNamed('shop/web'), entryOf()]]));
  await recorder.keeper.close();
  assert.deepEqual(recorder.steps, ['listen [shop/web]']);
});

test('a workload whose listeners cannot be opened is captured at once, and they are tried again', async () => {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: 'EADDRINUSE', late: notLate };
  await recorder.want(entryOf());
  assert.deepEqual(
    recorder.steps,
    ['listen [shop/web]', 'close shop/web', 'capture shop/web'],
    'without rules or a certificate',
  );
  assert.match(recorder.problem ?? '', /EADDRINUSE/);
  for (let pass = 0; pass < 3; pass++) await recorder.tick();
  assert.deepEqual(recorder.steps.slice(3), ['listen [shop/web]'], 'again after five seconds');
  assert.match(recorder.problem ?? '', /EADDRINUSE/, 'as long as they are not open');
  assert.equal(recorder.keeper.statuses()[0]?.hasFailed, true);
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  for (let pass = 0; pass < 4; pass++) await recorder.tick();
  assert.equal(recorder.steps.length, 4, 'and no more once they are open');
  assert.equal(recorder.problem, null);
  assert.equal(recorder.keeper.statuses()[0]?.hasFailed, false);
  await recorder.keeper.close();
});

test('a workload that no worker answers for is captured after a while all the same', async () => {
  const recorder = new Recorder();
  recorder.isServable = true;
  await recorder.want(entryOf());
  for (let elapsedMs = 0; elapsedMs < 6000; elapsedMs += 2000) {
    assert.ok(!recorder.steps.includes('capture shop/web'), `not after ${elapsedMs} ms`);
    await recorder.tick();
  }
  assert.ok(recorder.steps.includes('capture shop/web'));
  await recorder.tick();
  assert.match(recorder.problem ?? '', /listeners are not open/);
  await recorder.keeper.close();
});

const missing: readonly [string, () => Promise<string>, RegExp][] = [
  ['does not exist', async () => path.join(directory, 'absent'), /does not exist/],
  [
    'is a plain file that ip netns left behind',
    async () => {
      const file = path.join(directory, 'plain');
      await writeFile(file, '');
      return file;
    },
    /is not a network namespace/,
  ],
  ['tries to leave its directory', async () => '../../etc/passwd', /neither a name under/],
];
for (const [situation, make, expected] of missing) {
  test(`a workload whose namespace ${situation} waits and says why`, async () => {
    const recorder = new Recorder();
    await recorder.want(entryOf(await make()));
    assert.match(recorder.problem ?? '', expected);
    assert.ok(!recorder.steps.some((step) => step.startsWith('capture')));
    await recorder.keeper.close();
  });
}

test("the agent's own namespace is never captured", async () => {
  const recorder = new Recorder({ ownInode: namespaceInode });
  recorder.isServable = true;
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  const link = path.join(directory, 'own');
  await symlink('/proc/self/ns/net', link);
  await recorder.want(entryOf(link));
  assert.match(recorder.problem ?? '', /the agent's own network namespace/);
  assert.ok(!recorder.steps.some((step) => step.startsWith('capture')));
  await recorder.keeper.close();
});

/** A captured workload, with nothing in its steps. */
async function captured(): Promise<Recorder> {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.isServable = true;
  await recorder.want(entryOf());
  recorder.steps.length = 0;
  return recorder;
}

test('connects are sent to the queue only while something takes them out of it', async () => {
  const recorder = await captured();
  const lateProblem = (): string | null => recorder.keeper.statuses()[0]?.lateAcceptProblem ?? null;
  assert.equal(lateProblem(), null);
  const passed = recorder.wantLate(80, 443);
  assert.match(lateProblem() ?? '', /its rules are not loaded yet/, 'from the moment on at which the workers have it');
  await passed;
  assert.deepEqual(recorder.steps, ['listen [shop/web late]'], 'the queue first');
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: true, problem: null } };
  await recorder.tick();
  assert.deepEqual(recorder.steps.splice(0), ['listen [shop/web late]', 'capture shop/web late 80,443']);
  assert.equal(lateProblem(), null);
  await recorder.wantLate();
  assert.deepEqual(recorder.steps, ['capture shop/web', 'listen [shop/web]'], 'the rules first');
  await recorder.keeper.close();
});

test('a new workload is captured while the queue is taken, and its connects are sent there once it is open', async () => {
  const recorder = new Recorder();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.isServable = true;
  recorder.keeper.setLatePorts([80]);
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps.splice(0), ['listen [shop/web late]', 'close shop/web', 'capture shop/web']);
  assert.equal(recorder.problem, null, 'it is captured');
  assert.match(recorder.keeper.statuses()[0]?.lateAcceptProblem ?? '', /accepted early: the queue .* is not open yet/);
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: true, problem: null } };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['capture shop/web late 80']);
  assert.equal(recorder.keeper.statuses()[0]?.lateAcceptProblem, null);
  await recorder.keeper.close();
});

test('a workload that an earlier run captured keeps its rules until the queue is open again', async () => {
  const leftover = leftoverOf('shop/web');
  const recorder = new Recorder({ leftover });
  recorder.listening = { netnsInode: namespaceInode, error: null, late: notLate };
  recorder.keeper.setLatePorts([80]);
  await recorder.want(entryOf());
  assert.deepEqual(recorder.steps.splice(0), ['listen [shop/web late]'], 'its rules stay as they are');
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: true, problem: null } };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['capture shop/web late 80']);
  await recorder.keeper.close();
});

test('without a queue connections are accepted early, and the status says so until there is one', async () => {
  const recorder = await captured();
  const lateProblem = (): string | null => recorder.keeper.statuses()[0]?.lateAcceptProblem ?? null;
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: false, problem: 'no queue' } };
  await recorder.wantLate(80);
  assert.deepEqual(recorder.steps.splice(0), ['listen [shop/web late]'], 'the rules stay as they were');
  assert.equal(lateProblem(), 'connects to ports with earlyAccept: false are accepted early: no queue');
  assert.equal(recorder.problem, null, 'it is captured');
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: true, problem: null } };
  await recorder.tick();
  assert.deepEqual(recorder.steps, ['capture shop/web late 80']);
  assert.equal(lateProblem(), null);
  await recorder.keeper.close();
});

test('rules for late accept that iptables does not take leave the workload captured', async () => {
  const recorder = await captured();
  recorder.listening = { netnsInode: namespaceInode, error: null, late: { isOpen: true, problem: null } };
  recorder.lateRulesFailure = 'no target NFQUEUE';
  await recorder.wantLate(80);
  assert.ok(recorder.steps.includes('capture shop/web'), recorder.steps.join('; '));
  const [status] = recorder.keeper.statuses();
  assert.equal(status?.captured, true);
  assert.match(status?.lateAcceptProblem ?? '', /could not be loaded: no target NFQUEUE/);
  await recorder.keeper.close();
});

test('a pass that does not get further is told, and counts as stuck until it does', async () => {
  const recorder = new Recorder();
  let goOn = (): void => undefined;
  recorder.hanging = new Promise<void>((resolve) => (goOn = resolve));
  const wanted = recorder.want(entryOf());
  const { keeper, scheduler } = recorder;
  for (const [laterMs, isStuck] of [
    [170_000, false],
    [20_000, true],
  ] as const) {
    scheduler.after(laterMs, () => undefined);
    scheduler.runNext();
    assert.equal(keeper.isStuck, isStuck);
  }
  assert.match(keeper.watchProblem ?? '', /new namespaces are not captured: .*restart the agent/);
  goOn();
  await wanted;
  assert.deepEqual([keeper.isStuck, keeper.watchProblem], [false, null]);
  await keeper.close();
});
