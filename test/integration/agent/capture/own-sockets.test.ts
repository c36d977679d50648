import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { type Command, type CommandResult, CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import type { NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { renderRules } from '../../../../agent/capture/firewall/workload-rules.js';
import { NamespaceCapture, noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { type CgroupFound, cgroupInode } from '../../../../agent/capture/own-cgroup.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { ownTrafficMark } from '../../../../agent/ports.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { TestCgroup } from '../../../support/agent/cgroups.js';
import { markedDial } from '../../../support/agent/marked-dial.js';
import { workloadNamed } from '../../../support/routing/names.js';

/** Which sockets with the mark of the agent are taken for the agent's: those that were made in its cgroup. */

const execute = promisify(execFile);
const families = [4, 6] as const;
const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];

/** Loads of rules with one of these matches fails with this text. */
class LackingRunner extends CommandRunner {
  lacks: readonly string[] = [];
  stderr = '';

  override async run(command: Command): Promise<CommandResult> {
    if (this.lacks.some((match) => command.input?.includes(`-m ${match}`) === true))
      return { code: 2, stdout: '', stderr: this.stderr };
    return await super.run(command);
  }
}

let network: CaptureNetwork;
let cgroup: TestCgroup;
let runner: LackingRunner;
before(() => {
  cgroup = new TestCgroup();
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(async () => {
  await network[Symbol.asyncDispose]();
  cgroup[Symbol.dispose]();
});

async function captured(backend: NetfilterBackend, ownCgroup: string): Promise<NamespaceCapture> {
  const { a } = network;
  await network.serveCapturePorts(a);
  for (const family of families)
    await network.serve({ at: network.b, host: network.b.ip[family], port: 8500, label: 'b' });
  const capture = new NamespaceCapture({
    runner: (runner = new LackingRunner({ maxParallel: 2 })),
    backend,
    settings: defaultCaptureSettings,
    log: { info: () => {}, warn: () => {}, error: () => {} },
    onRepair: () => {},
    workload: { name: workloadNamed('t/web'), netnsPath: a.path, addresses: [], exclusions: noExclusions },
    inode: netnsInode(a.path) ?? 0,
    ownCgroup,
  });
  return capture;
}

/** Each dial has a port of its own: one that was refused leaves an entry there, which would lead the next one astray. */
let lastPort = 46_000;

/** Who answers a socket with the mark, in both families: `outbound` is the listener that captured connections get to. */
async function answers(run: (program: string, args: readonly string[]) => Promise<string>): Promise<readonly string[]> {
  const { a, b } = network;
  const found: string[] = [];
  for (const family of families) {
    const words = [b.ip[family], 8500, ownTrafficMark, ++lastPort].map(String);
    const program = ['perl', '-e', markedDial, ...words];
    found.push((await run('nsenter', [`--net=${a.path}`, ...program])).split(' ')[0]!);
  }
  return found;
}

/** As root has it in a container: neither CAP_NET_ADMIN nor CAP_SYS_ADMIN. */
async function withNetRaw(program: string, args: readonly string[]): Promise<string> {
  const [netns = '', ...rest] = args;
  const { stdout } = await execute(program, [netns, 'setpriv', '--bounding-set=-all,+net_raw,+setuid', ...rest]);
  return stdout;
}

const inCgroup = (program: string, args: readonly string[]): Promise<string> => cgroup.run(program, args);

for (const backend of backEnds) {
  test(`a program with CAP_NET_RAW that sets the mark is refused, and the agent's cgroup gets out: ${backend.kind}`, async () => {
    const capture = await captured(backend, cgroup.path);
    await capture.apply(capture.workload);
    // So is the agent itself when it was moved: nothing comes back to its listener, which would dial again and again.
    assert.deepEqual(await answers(withNetRaw), ['refused:', 'refused:']);
    assert.deepEqual(await answers(inCgroup), ['b', 'b']);
    assert.equal(capture.status().exemptionProblem, null);
    assert.equal(await capture.check({ isFull: true }), 'ok');
    await capture.stop();
  });

  test(`a host that cannot tell them apart captures all the same, and says so: ${backend.kind}`, async () => {
    const capture = await captured(backend, cgroup.path);
    for (const [lacks, stderr, said] of [
      [['cgroup'], "Couldn't load match `cgroup':No such file or directory", [true, false]],
      [['socket'], "Couldn't load match `socket':No such file or directory", [false, true]],
      [['cgroup'], 'line 22: RULE_APPEND failed (No such file or directory): rule in chain', [true, false]],
      [['socket'], 'line 22: RULE_APPEND failed (No such file or directory): rule in chain', [false, true]],
      [['socket', 'cgroup'], 'line 22: RULE_APPEND failed (No such file or directory): rule in chain', [true, true]],
      [[], '', [false, false]],
    ] as const) {
      [runner.lacks, runner.stderr] = [lacks, stderr];
      await capture.apply({
        ...capture.workload,
        exclusions: { ...noExclusions, excludeInboundPorts: [lacks.length + 1] },
      });
      await capture.check({ isFull: true });
      const { state, exemptionProblem, guardProblem } = capture.status();
      assert.equal(state, 'captured');
      assert.deepEqual([exemptionProblem !== null, guardProblem !== null], said, `${lacks.join()}: ${stderr}`);
      assert.deepEqual(await answers(withNetRaw), said[0] ? ['b', 'b'] : ['refused:', 'refused:']);
      assert.deepEqual(await answers(inCgroup), ['b', 'b'], 'the agent itself always gets out');
    }
    await capture.stop();
  });

  test(`a cgroup that the kernel does not find is the same as none: ${backend.kind}`, async () => {
    const capture = await captured(backend, '/culvert-test-that-is-not-there');
    await capture.apply(capture.workload);
    assert.equal(capture.status().state, 'captured');
    assert.match(capture.status().exemptionProblem ?? '', /CAP_NET_RAW can leave capture in it: IPv4 and IPv6: /);
    assert.equal(capture.status().guardProblem, null);
    await capture.stop();
  });
}

const ownCgroup = pathToFileURL(path.resolve('dist/agent/capture/own-cgroup.js')).href;
const enter = `
  const { enterOwnCgroup } = await import(${JSON.stringify(ownCgroup)});
  const found = enterOwnCgroup(null);
  const { readFileSync } = await import('node:fs');
  const now = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))[1];
  console.log(JSON.stringify({ found, now }));
`;
const program = [process.execPath, '--input-type=module', '-e', enter] as const;

test('an agent that is alone in its cgroup, as in a unit, stays there', async () => {
  const { found, now } = JSON.parse(await cgroup.run(program[0], program.slice(1))) as Entered;
  assert.ok('path' in found);
  assert.deepEqual([found.path, now], [cgroup.path, cgroup.path]);
  assert.ok(found.inode > 0);
});

test('an agent that is moved to another cgroup says so', async () => {
  const moved = `
    const { enterOwnCgroup, movedFrom } = await import(${JSON.stringify(ownCgroup)});
    const found = enterOwnCgroup(null);
    console.log(JSON.stringify([movedFrom(found), movedFrom({ ...found, path: '/before' })]));
  `;
  const run = [process.execPath, '--input-type=module', '-e', moved] as const;
  const [stays, left] = JSON.parse(await cgroup.run(run[0], run.slice(1))) as [string | null, string];
  assert.equal(stays, null);
  assert.match(left, /was moved from the cgroup \/before to \/culvert-test-\w+/);
});

test('an agent that is moved to another cgroup loads its rules for that one', async () => {
  const { a, b } = network;
  const agent = spawn('sleep', ['600'], { stdio: 'ignore' });
  const other = spawn('sleep', ['600'], { stdio: 'ignore' });
  const pid = agent.pid ?? 0;
  const later = new TestCgroup();
  try {
    cgroup.take(pid);
    const warned: object[] = [];
    const log = { info: () => {}, warn: (fields: object) => void warned.push(fields), error: () => {} };
    const own = { path: cgroup.path, inode: cgroupInode(cgroup.path) ?? 0, process: pid, members: [pid] };
    await using capture = network.capture({ log, cgroup: own });
    await network.serveCapturePorts(a);
    for (const family of families) await network.serve({ at: b, host: b.ip[family], port: 8500, label: 'b' });
    await capture.apply({ name: workloadNamed('t/web'), netnsPath: a.path, addresses: [], exclusions: noExclusions });
    const inLater = (program: string, args: readonly string[]): Promise<string> => later.run(program, args);
    assert.equal(await capture.followCgroup(), undefined, 'it was not moved');
    assert.deepEqual([await answers(inCgroup), await answers(inLater)], [both('b'), both('refused:')]);
    later.take(pid);
    assert.match(capture.exemptionProblem() ?? '', /was moved from the cgroup .* refused until/);
    assert.equal(await capture.followCgroup(), cgroupInode(later.path));
    assert.equal(capture.exemptionProblem(), null);
    assert.deepEqual([await answers(inCgroup), await answers(inLater)], [both('refused:'), both('b')]);
    assert.deepEqual(warned, [{ from: cgroup.path, to: later.path, problem: null }]);
    assert.equal(await capture.check(workloadNamed('t/web')), 'ok', 'that was no damage');
    cgroup.take(other.pid ?? 0);
    cgroup.take(pid);
    await capture.followCgroup();
    assert.match(capture.exemptionProblem() ?? '', /moved there, and others are in it/);
    assert.deepEqual(await answers(inCgroup), both('b'));
    await capture.releaseAll();
  } finally {
    const ended = [agent, other].map((each) => once(each, 'exit'));
    for (const each of [agent, other]) each.kill('SIGKILL');
    await Promise.all(ended);
    later[Symbol.dispose]();
  }
});

function both(answer: string): readonly string[] {
  return [answer, answer];
}

test('one that shares its cgroup with other programs goes to that of agents', async () => {
  const shared = `sleep 60 & "$@"; kill $!`;
  const { found, now } = JSON.parse(await cgroup.run('sh', ['-c', shared, 'sh', ...program])) as Entered;
  assert.ok('path' in found);
  assert.deepEqual([found.path, now], ['/culvert-agent', '/culvert-agent']);
});

test('in a container its cgroup is the root of what it sees, and a rule that is loaded there means that one', async () => {
  const { a, b } = network;
  await network.serve({ at: b, host: b.ip[4], port: 8500, label: 'b' });
  await network.serveCapturePorts(a);
  const rules = renderRules(noExclusions, { ownCgroup: '/' });
  const load = `nsenter --net=${a.path} iptables-restore --noflush <<'E'\n${rules.v4}E`;
  const script = `mount -t cgroup2 none /sys/fs/cgroup; ${load}\nexec "$@"`;
  const { found, now } = JSON.parse(
    await cgroup.run('unshare', ['-C', '-m', '--', 'sh', '-c', script, 'sh', ...program]),
  ) as Entered;
  assert.deepEqual(['path' in found ? found.path : found.problem, now], ['/', '/']);
  const dial = [`--net=${a.path}`, 'perl', '-e', markedDial, b.ip[4], '8500', String(ownTrafficMark)];
  assert.match(await cgroup.run('nsenter', dial), /^b /);
  assert.match(await withNetRaw('nsenter', dial), /^refused: /);
});

test('as the first process of a container it is alone there, with its children and with what kubelet runs in it', async () => {
  const wait = `process.stdin.once('data', async () => {${enter} process.exit(0); }); console.log('up');`;
  const words = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--', process.execPath];
  const stdio = ['pipe', 'pipe', 'inherit'] as const;
  const container = spawn('unshare', [...words, '--input-type=module', '-e', wait], { stdio: [...stdio] });
  const lines = createInterface({ input: container.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, 'up');
  const pid = Number(readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8'));
  const probe = spawn('nsenter', [`--pid=/proc/${pid}/ns/pid`, '--', 'sleep', '60'], { stdio: 'ignore' });
  const children = `/proc/${probe.pid}/task/${probe.pid}/children`;
  const probed = await waitUntil('the probe runs', () => Number(readFileSync(children, 'utf8')) || undefined);
  try {
    for (const each of [pid, probed]) cgroup.take(each);
    container.stdin.write('now\n');
    const { found } = JSON.parse(String((await lines.next()).value)) as Entered;
    assert.equal('path' in found ? found.path : found.problem, cgroup.path);
  } finally {
    process.kill(probed);
    container.kill('SIGKILL');
    await Promise.all([once(probe, 'close'), once(container, 'close')]);
  }
});

type Entered = { readonly found: CgroupFound; readonly now: string };
