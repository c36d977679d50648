import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { Cni } from '../../../../agent/control/cni/cni.js';
import { CniSocket } from '../../../../agent/control/cni/cni-socket.js';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { captureControl } from '../../../../agent/control/workloads/capture-control.js';
import { CaptureLedger } from '../../../../agent/control/workloads/capture-ledger.js';
import { OwnWorkloads, type WantedWorkload } from '../../../../agent/control/workloads/own-workloads.js';
import { PodSandboxes } from '../../../../agent/control/workloads/pod-sandboxes.js';
import { WorkloadReconciler } from '../../../../agent/control/workloads/workload-reconciler.js';
import { systemScheduler } from '../../../../agent/thread/scheduler.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import type { NodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
import type { WorkloadName } from '../../../../shared/routing/names.js';
import { podNetns } from '../../../../shared/routing/registry-entry.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import {
  cniConfig,
  cniEnvironment,
  previousResult,
  runCniPlugin,
  type CniAnswer,
  type CniCommand,
  type CniError,
} from '../../../support/agent/cni-plugin.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { workloadOf } from '../../../support/agent/agent-link-fixture.js';

const prefix = `cvp${randomBytes(3).toString('hex')}`;
const made = new Set<string>();
const logged: string[] = [];
const log = createLog({ name: 'test', level: 'warn', stream: { write: (line) => void logged.push(line) } });

let directory = '';
let socket = '';
let enrolled = '';
let isComplete = true;
/** What the controller says of pods that are still to start. */
const told = {
  current: null as NodeEnrolment | null,
  listeners: new Set<() => void>(),
  onChange(callback: () => void): () => void {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  },
  say(enrolment: NodeEnrolment | null): void {
    this.current = enrolment;
    for (const each of this.listeners) each();
  },
};
let capture: WorkloadCapture;
let reconciler: WorkloadReconciler;
let cni: Cni | null = null;

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'culvert-cnis-'));
  socket = path.join(directory, 'cni.sock');
  enrolled = path.join(directory, 'cni-enrolled');
  const file = new ChecksummedFile({
    path: path.join(directory, 'captured.json'),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  capture = new WorkloadCapture({ log });
  reconciler = new WorkloadReconciler({
    capture: captureControl(capture, Promise.resolve()),
    // Nothing listens and nothing can be served: namespaces stay closed.
    listeners: { setWorkloads: () => undefined, listeningOf: () => null, isListening: () => false },
    ledger: new CaptureLedger({ file, entries: [], log }),
    scheduler: systemScheduler,
    log,
    captureWaitMs: 600_000,
    isServable: () => false,
    isRegistryComplete: () => isComplete,
    onChange: () => undefined,
    ownInode: 0,
    ownCgroup: null,
  });
  cni = openCni();
});

after(async () => {
  cni?.close();
  await reconciler.close();
  await reconciler.releaseAll();
  await capture.close();
  for (const name of made) execFileSync('ip', ['netns', 'del', name]);
  await rm(directory, { recursive: true });
});

function openCni(sandboxes: Pick<PodSandboxes, 'place'> = { place: () => undefined }): Cni | null {
  const inCharge = Promise.resolve();
  const settings = { cniSocket: socket, cniConfigDir: null, stateDir: directory };
  return Cni.start({
    settings,
    installer: null,
    reconciler,
    isComplete: () => isComplete,
    isCurrent: () => true,
    sandboxes,
    enrolment: told,
    inCharge,
    log,
  });
}

/** Registers a workload for each namespace; `namespaces`: as names of `ip netns`, in the order of the workloads. */
function register(...namespaces: readonly string[]): void {
  const wanted = new Map<WorkloadName, WantedWorkload>();
  for (const [index, netns] of namespaces.entries()) {
    const name = `pod${index}`;
    const identity = formatSpiffeId({ trustDomain: 'test.local', namespace: 'shop', serviceAccount: name });
    wanted.set(workloadNamed(`shop/${name}`), { identity, netns, addresses: [], capture: noExclusions });
  }
  reconciler.setWanted(wanted);
}

/** As a container runtime does before it calls the plugins. */
function makeNamespace(name: string): void {
  execFileSync('ip', ['netns', 'add', name]);
  made.add(name);
  execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
}

function removeNamespace(name: string): void {
  execFileSync('ip', ['netns', 'del', name]);
  made.delete(name);
}

function plugin(
  command: CniCommand,
  netns: string,
  o: { readonly namespace?: string; readonly timeoutMs?: number } = {},
): Promise<CniAnswer> {
  const { namespace = 'shop', timeoutMs = Math.min(120_000, patientMs(10_000)) } = o;
  const at = netns.startsWith('/') ? netns : `/var/run/netns/${netns}`;
  const env = cniEnvironment({ command, netns: at, namespace });
  return runCniPlugin({ env, stdin: cniConfig({ socket, enrolled, timeoutMs }) });
}

function assertPassed({ code, stdout }: CniAnswer): void {
  assert.deepEqual({ code, stdout }, { code: 0, stdout: `${previousResult}\n` });
}

function errorOf({ code, stdout }: CniAnswer): CniError {
  assert.equal(code, 1, stdout);
  return JSON.parse(stdout) as CniError;
}

/** All that the socket answers until it closes the connection, also with an error. */
function said(at: string, request: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const connection = net.connect(at);
    let answer = '';
    connection.setEncoding('utf8');
    connection.on('data', (part: string) => (answer += part));
    connection.on('error', () => undefined);
    connection.once('close', () => resolve(answer));
    connection.write(request);
  });
}

/** How many rules drop what begins, in both families. */
function closingRules(name: string): number {
  const shown = execFileSync('nsenter', [`--net=/run/netns/${name}`, 'sh', '-c', 'iptables-save; ip6tables-save']);
  return shown.toString().match(/"culvert:closed" -j DROP$/gm)?.length ?? 0;
}

test('when ADD returns, the kernel has the rules of the pod', { timeout: 120_000 }, async (t) => {
  const names = Array.from({ length: 12 }, (_, index) => `${prefix}a${index}`);
  register(...names);
  const times: number[] = [];
  for (const name of names) {
    makeNamespace(name);
    const answer = await plugin('ADD', name);
    assert.equal(closingRules(name), 4, logged.join(''));
    assertPassed(answer);
    times.push(answer.tookMs);
    // It asks again for the same container when something after it has failed.
    assertPassed(await plugin('ADD', name));
    assertPassed(await plugin('ADD', `/run/netns/${name}`));
    assert.equal((await plugin('CHECK', name)).code, 0);
  }
  times.sort((a, b) => a - b);
  const [least = Infinity] = times;
  t.diagnostic(
    `ADD: least ${least.toFixed(1)} ms, median ${times[6]?.toFixed(1)} ms, most ${times.at(-1)?.toFixed(1)} ms`,
  );
  // Of one that no other load hits.
  assert.ok(least < patientMs(80), 'the goal for what a pod waits');
});

test('many ADD at once are all answered', { timeout: 120_000 }, async (t) => {
  const names = Array.from({ length: 8 }, (_, index) => `${prefix}b${index}`);
  register(...names);
  await waitUntil('what was there before is released', () => (capture.status().length === 0 ? true : undefined));
  for (const name of names) makeNamespace(name);
  const startedAtMs = performance.now();
  for (const answer of await Promise.all(names.map((name) => plugin('ADD', name)))) assertPassed(answer);
  t.diagnostic(`8 at once: ${(performance.now() - startedAtMs).toFixed(1)} ms`);
  for (const name of names) assert.equal(closingRules(name), 4);
});

test('a namespace that comes again under its name is captured again, also when the one before has just gone', async () => {
  const name = `${prefix}c`;
  register(name);
  for (let round = 0; round < 4; round++) {
    makeNamespace(name);
    assertPassed(await plugin('ADD', name));
    assert.equal(closingRules(name), 4);
    assert.equal((await plugin('DEL', name)).code, 0);
    removeNamespace(name);
  }
});

test('a pod that no workload names passes without rules, and DEL and CHECK know nothing of it', async () => {
  const name = `${prefix}d`;
  register(`${prefix}other`);
  makeNamespace(name);
  assertPassed(await plugin('ADD', name, { namespace: 'guests' }));
  assertPassed(await plugin('ADD', name));
  assert.equal(execFileSync('nsenter', [`--net=/run/netns/${name}`, 'iptables-save']).toString(), '');
  for (const command of ['DEL', 'CHECK', 'GC', 'STATUS'] as const) assert.equal((await plugin(command, name)).code, 0);
});

test('only a network namespace in /run/netns is captured', { timeout: 60_000 }, async () => {
  register(`${prefix}e`);
  const plain = `/run/netns/${prefix}plain`;
  writeFileSync(plain, '');
  try {
    for (const [netns, problem] of [
      ['/proc/self/ns/net', /is not in \/run\/netns/],
      ['/run/netns/../netns/x', /is not in \/run\/netns/],
      ['/run/netns/a/b', /is not in \/run\/netns/],
      ['/run/netns/', /is not in \/run\/netns/],
      ['/run/netns/.hidden', /is not in \/run\/netns/],
      [plain, /is not a network namespace/],
      [`/run/netns/${prefix}none`, /cannot be found: ENOENT/],
    ] as const) {
      const error = errorOf(await plugin('ADD', netns));
      assert.equal(error.code, 11);
      assert.match(error.details, problem, netns);
    }
  } finally {
    await rm(plain);
  }
});

test(
  'while the workloads are not known, the list decides; a pod is held until they are',
  { timeout: 60_000 },
  async () => {
    const name = `${prefix}f`;
    register(`${prefix}other`);
    await waitUntil('the list is written', () =>
      readFileSync(enrolled, 'utf8').includes('\nnamespace shop\n') ? true : undefined,
    );
    isComplete = false;
    register();
    makeNamespace(name);
    assertPassed(await plugin('ADD', name, { namespace: 'guests', timeoutMs: 800 }));
    assert.match(errorOf(await plugin('ADD', name, { timeoutMs: 800 })).msg, /the agent of this node does not answer/);
    const held = plugin('ADD', name, { timeoutMs: 20_000 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    isComplete = true;
    register(name);
    assertPassed(await held);
    assert.equal(closingRules(name), 4);
  },
);

test('the list names the namespaces of the workloads, and stays without an agent, like the answers that it gives', async () => {
  register(`${prefix}g`);
  const whole = 'culvert-enrolled 2\nnamespace shop\nend 1\n';
  await waitUntil('the list is written', () => (readFileSync(enrolled, 'utf8') === whole ? true : undefined));
  assert.equal(statSync(enrolled).mode & 0o777, 0o600);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  cni?.close();
  makeNamespace(`${prefix}g`);
  const waiting = plugin('ADD', `${prefix}g`, { timeoutMs: 20_000 });
  const error = errorOf(await plugin('ADD', `${prefix}g`, { timeoutMs: 300 }));
  assert.deepEqual([error.code, error.msg.includes('it starts when the agent does')], [11, true]);
  assertPassed(await plugin('ADD', `${prefix}g`, { namespace: 'guests' }));
  cni = openCni();
  assertPassed(await waiting);
  assert.equal(closingRules(`${prefix}g`), 4);
  // The list of workloads is empty now: what was enrolled before is not.
  register();
  await waitUntil('the list is empty', () =>
    readFileSync(enrolled, 'utf8') === 'culvert-enrolled 2\nend 0\n' ? true : undefined,
  );
});

test('a pod is captured where the plugin says that it is, found by its UID, before any cache of the runtime has it', async () => {
  const [first, second] = [`${prefix}u0`, `${prefix}u1`] as const;
  const node = nodeNamed('node1');
  const sandboxes = new PodSandboxes({
    log,
    onChange: () => reconciler.setWanted(own.wanted),
    // The runtime writes it when all plugins have answered.
    read: async () => [],
  });
  const own = new OwnWorkloads({ node, sandboxes });
  const entry = { ...workloadOf('web'), node, netns: podNetns('6e2c-1') };
  cni?.close();
  cni = openCni(sandboxes);
  await waitUntil('the plugin gets answers', () => (cni?.problem === null ? true : undefined));
  try {
    own.useRegistry({ isFull: true, upserts: [entry], removals: [] }, []);
    reconciler.setWanted(own.wanted);
    for (const netns of [first, second]) makeNamespace(netns);
    assertPassed(await plugin('ADD', first));
    assert.deepEqual([closingRules(first), closingRules(second)], [4, 0]);
    assert.equal((await plugin('CHECK', first)).code, 0);
    // Kubelet makes it another sandbox.
    removeNamespace(first);
    assertPassed(await plugin('ADD', second));
    assert.equal(closingRules(second), 4);
    // Another pod, although it is in the same namespace of Kubernetes.
    own.useRegistry({ isFull: true, upserts: [{ ...entry, netns: podNetns('other') }], removals: [] }, []);
    reconciler.setWanted(own.wanted);
    makeNamespace(first);
    assertPassed(await plugin('ADD', first, { namespace: 'guests' }));
    assert.equal(closingRules(first), 0);
  } finally {
    sandboxes.close();
    cni?.close();
    cni = openCni();
    await waitUntil('the plugin gets answers', () => (cni?.problem === null ? true : undefined));
  }
});

test('the first pod of a namespace of the mesh waits for word of it; one that is outside starts at once', async () => {
  const name = `${prefix}h`;
  const namespace = 'fresh';
  register(`${prefix}other`);
  makeNamespace(name);
  assertPassed(await plugin('ADD', name, { namespace }));
  told.say({ version: 1, namespaces: [namespace], outside: [] });
  try {
    // The plugin has to start within it, and to ask.
    const error = errorOf(await plugin('ADD', name, { namespace, timeoutMs: patientMs(3000) }));
    assert.deepEqual([error.code, /the controller has not told the agent of the pod/.test(error.details)], [11, true]);
    assert.equal((await plugin('CHECK', name, { namespace })).code, 0);
    // It asks before the controller has said that the pod is outside.
    const held = plugin('ADD', name, { namespace, timeoutMs: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    told.say({ version: 2, namespaces: [namespace], outside: ['6e2c-1'] });
    const { tookMs, ...passed } = await held;
    assertPassed({ tookMs, ...passed });
    assert.ok(tookMs < patientMs(3000), `${tookMs} ms`);
    assertPassed(await plugin('ADD', name, { namespace }));
    // What it said stays on the node.
    await waitUntil('the list is written', () =>
      /\nnamespace fresh\n[^]*outside 6e2c-1\n/.test(readFileSync(enrolled, 'utf8')) ? true : undefined,
    );
    cni?.close();
    assertPassed(await plugin('ADD', name, { namespace }));
    told.say({ version: 3, namespaces: [namespace], outside: [] });
    cni = openCni();
    await waitUntil('the list is written again', () =>
      readFileSync(enrolled, 'utf8').includes('outside') ? undefined : true,
    );
    cni?.close();
    assert.equal(errorOf(await plugin('ADD', name, { namespace, timeoutMs: 300 })).code, 11);
  } finally {
    told.say(null);
    cni = openCni();
    await waitUntil('the plugin gets answers', () => (cni?.problem === null ? true : undefined));
  }
});

test('what is no request is not answered, and holds nothing', { timeout: 60_000 }, async () => {
  const ask = (request: string | Uint8Array): Promise<string> => said(socket, request);
  const good = {
    version: 1,
    command: 'ADD',
    timeoutMs: 500,
    containerId: 'a',
    netns: '/run/netns/none',
    interface: 'eth0',
  };
  const pod = { namespace: 'shop', name: 'a', uid: 'a' };
  const line = (value: unknown): string => `${JSON.stringify(value)}\n`;
  assert.match(await ask(line({ ...good, pod })), /"outcome":"failed"/);
  for (const wrong of [
    '\n',
    'who\n',
    line({ ...good, pod, version: 2 }),
    line({ ...good, pod, command: 'DEL' }),
    line({ ...good, pod, more: 1 }),
    line(good),
    line({ ...good, pod: { ...pod, namespace: 5 } }),
    line({ ...good, pod, timeoutMs: 1e9 }),
    `${line({ ...good, pod })}more\n`,
    'x'.repeat(5000),
    Buffer.alloc(4096 * 16, 0xff),
  ]) {
    assert.equal(await ask(wrong), '', wrong.toString().slice(0, 80));
  }
  // One that says nothing is let go.
  assert.equal(await said(socket, ''), '');
});

test('another user is refused, and so is more than a node starts', { timeout: 60_000 }, async () => {
  const other = path.join(directory, 'other.sock');
  const answers = { path: other, log, answer: async () => ({ outcome: 'captured' as const }) };
  const pod = { namespace: 'shop', name: 'a', uid: 'a' };
  const request = {
    version: 1,
    command: 'ADD',
    timeoutMs: 500,
    containerId: 'a',
    netns: '/run/netns/none',
    interface: '',
    pod,
  };
  const ask = (): Promise<string> => said(other, `${JSON.stringify(request)}\n`);
  const forOthers = new CniSocket({ ...answers, user: 64_999 });
  await forOthers.open();
  logged.length = 0;
  assert.equal(await ask(), '');
  assert.match(logged.join(''), /a process that is no CNI plugin asked this agent/);
  assert.match(logged.join(''), /it belongs to user 0/);
  forOthers.close();
  const ours = new CniSocket({ ...answers, maxRequestsPerSecond: 5 });
  await ours.open();
  const answered: string[] = [];
  for (let round = 0; round < 30; round++) answered.push(await ask());
  assert.equal(answered[0], '{"outcome":"captured"}\n');
  assert.ok(answered.includes(''), 'the rate is bounded');
  ours.close();
});
