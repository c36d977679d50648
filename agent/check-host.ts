import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { release } from 'node:os';
import { CulvertError, describeError } from '../shared/errors.js';
import type { WorkloadName } from '../shared/routing/names.js';
import { defaultCaptureSettings } from './capture/capture-settings.js';
import { CommandRunner, findMissingTools } from './capture/firewall/command-runner.js';
import { detectBackend, type NetfilterBackend } from './capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from './capture/namespace-capture.js';
import { cgroupProblem } from './capture/own-cgroup.js';
import { probeCapture, selfTestProblems } from './capture/self-test.js';
import type { AgentSettings } from './config/agent-settings.js';
import { findUser } from './host-user.js';
import { listenTcp } from './native/addon.js';
import { openNetns, type OpenNetns } from './native/netns.js';
import { capturePorts } from './ports.js';

/** What a host has or lacks for an agent. `warn`: it works, and promises less. */
export type HostCheck = {
  /** Stable, for programs. */
  readonly check: string;
  readonly state: 'ok' | 'warn' | 'fail';
  readonly message: string;
  /** What to do; empty for `ok`. */
  readonly hint: string;
};

type CheckedSettings = Pick<AgentSettings, 'privileges' | 'user'>;

const trialTimeoutMs = 5000;
const silent = { info: (): void => undefined, warn: (): void => undefined, error: (): void => undefined };

/**
 * What stands in the way of an agent on this host, looked for before one runs. It changes nothing that stays: rules are tried
 * in a network namespace of its own, which goes with it. Never rejects.
 */
export async function checkHost(settings: CheckedSettings): Promise<HostCheck[]> {
  const isRoot = process.platform === 'linux' && process.geteuid?.() === 0;
  const missing = findMissingTools();
  const canTry = isRoot && missing.length === 0;
  return [
    { check: 'node', state: 'ok', message: `Node ${process.versions.node} on Linux ${release()}`, hint: '' },
    isRoot
      ? ok('root', 'this check runs as root, as the agent starts')
      : fail('root', 'only root can try what the agent does: iptables and the kernel are not checked', 'use sudo'),
    missing.length === 0
      ? ok('programs', 'every program that capture runs is installed')
      : fail(
          'programs',
          `missing: ${missing.map(({ command }) => command).join(', ')}`,
          `apt-get install ${[...new Set(missing.map(({ debianPackage }) => debianPackage))].join(' ')}`,
        ),
    userCheck(settings),
    cgroupCheck(),
    ...(canTry ? await captureChecks() : []),
  ];
}

function userCheck({ privileges, user }: CheckedSettings): HostCheck {
  if (privileges === 'whole') return ok('user', 'the agent stays root (privileges: whole)');
  try {
    findUser(user);
    return ok('user', `the agent becomes the user ${user}`);
  } catch (error) {
    return error instanceof CulvertError
      ? fail('user', error.message, error.hint ?? '')
      : fail('user', describeError(error), 'see /etc/passwd');
  }
}

function cgroupCheck(): HostCheck {
  const problem = cgroupProblem();
  if (problem === null) return ok('cgroup', 'rules can tell the agent by its cgroup');
  const message = `a process with CAP_NET_RAW can leave capture: ${problem}`;
  return warn('cgroup', message, 'see security.md, "What a host has"');
}

/** Loads the rules of a workload, and dials as one would. */
async function captureChecks(): Promise<HostCheck[]> {
  const runner = new CommandRunner({ maxParallel: 2 });
  let backend: NetfilterBackend;
  try {
    backend = await detectBackend(runner);
  } catch (error) {
    return [fail('iptables', describeError(error), 'the agent needs an iptables that runs')];
  }
  const what = `iptables (${backend.kind})`;
  try {
    await using trial = await Trial.start();
    const { capture, guard } = await trial.load(runner, backend);
    const results = await Promise.all(([4, 6] as const).map((family) => trial.dial(family)));
    await capture.stop();
    const wrong = results.filter((result) => result !== 'captured' && result !== 'no-route');
    const [first] = wrong;
    if (first !== undefined || !results.includes('captured')) {
      const why = first === undefined ? 'nothing can be dialled' : (selfTestProblems[first] ?? first);
      const hint =
        'are there two iptables, of which the kernel uses the other? See iptables -V and update-alternatives';
      return [fail('iptables', `the rules of ${what} load, and do not count: ${why}`, hint)];
    }
    return [
      ok('iptables', `the rules of ${what} load and count`),
      ...(guard === null ? [] : [warn('guard', guard, 'see security.md, "What a host has"')]),
    ];
  } catch (error) {
    const hint =
      'the kernel needs its modules for nat, conntrack, connmark, owner, addrtype and CT: nf_nat, xt_REDIRECT, nft_compat…';
    return [fail('iptables', `the rules of a workload do not load with ${what}: ${describeError(error)}`, hint)];
  }
}

/** A network namespace that leads nowhere and has no name that a running agent sees, with a listener in place of an agent. */
class Trial implements AsyncDisposable {
  readonly #holder: ChildProcess;
  readonly #netnsPath: string;
  readonly #netns: OpenNetns;
  readonly #servers: Server[] = [];

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.#netnsPath = `/proc/${holder.pid ?? 0}/ns/net`;
    this.#netns = openNetns(this.#netnsPath);
  }

  static async start(): Promise<Trial> {
    const script = [...[4, 6].map(wayOut), 'echo; read _'].join('; ');
    const holder = spawn('unshare', ['--net', 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'ignore'] });
    holder.stdin.on('error', () => undefined);
    await Promise.race([
      once(holder.stdout, 'data'),
      once(holder, 'close').then(() => {
        throw new Error('no network namespace can be made: unshare --net failed');
      }),
    ]);
    return new Trial(holder);
  }

  async load(runner: CommandRunner, backend: NetfilterBackend) {
    const workload = {
      name: 'culvert/check' as WorkloadName,
      netnsPath: this.#netnsPath,
      addresses: [],
      exclusions: noExclusions,
    };
    const { fd, inode } = this.#netns;
    // Of both families, where there are two.
    for (const host of ['::', '0.0.0.0']) {
      const server = createServer((socket) => socket.destroy()).on('error', () => undefined);
      try {
        const { outbound: port } = capturePorts;
        const listening = { netnsFd: fd, host, port, backlog: 8, reusePort: false, transparent: true };
        server.listen({ fd: listenTcp(listening) }, 8);
        this.#servers.push(server);
        break;
      } catch (error) {
        if (host === '0.0.0.0') throw error;
      }
    }
    const capture = new NamespaceCapture({
      runner,
      backend,
      settings: defaultCaptureSettings,
      log: silent,
      onRepair: () => undefined,
      workload,
      inode,
      ownCgroup: null,
    });
    await capture.apply(workload);
    return { capture, guard: capture.status().guardProblem };
  }

  dial(family: 4 | 6): ReturnType<typeof probeCapture> {
    return probeCapture({ netnsFd: this.#netns.fd, family, exclusions: noExclusions, timeoutMs: trialTimeoutMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    const ended = this.#holder.exitCode === null ? once(this.#holder, 'close') : null;
    this.#holder.stdin?.end();
    await ended;
  }
}

/**
 * Addresses for documentation (RFC 5737, RFC 3849), so that a dial has a source: not those that it goes to. There may be no
 * IPv6.
 */
function wayOut(family: number): string {
  const address = family === 4 ? '198.51.100.1/32' : '2001:db8:1::1/128 nodad';
  return `ip link set lo up && ip -${family} addr add ${address} dev lo && ip -${family} route add default dev lo`;
}

function ok(check: string, message: string): HostCheck {
  return { check, state: 'ok', message, hint: '' };
}

function warn(check: string, message: string, hint: string): HostCheck {
  return { check, state: 'warn', message, hint };
}

function fail(check: string, message: string, hint: string): HostCheck {
  return { check, state: 'fail', message, hint };
}
