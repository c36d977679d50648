import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { release } from 'node:os';
import { CulvertError, describeError } from '../shared/errors.js';
import { findProgram, programPath } from '../shared/program-path.js';
import type { WorkloadName } from '../shared/routing/names.js';
import { defaultCaptureSettings } from './capture/capture-settings.js';
import { CommandRunner, findMissingTools } from './capture/firewall/command-runner.js';
import { detectBackend, type NetfilterBackend } from './capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from './capture/namespace-capture.js';
import { cgroupProblem } from './capture/own-cgroup.js';
import { probeCapture, selfTestProblems } from './capture/self-test.js';
import type { AgentSettings } from './config/agent-settings.js';
import { connectionsThatFit, filesHint, filesProblem } from './config/open-files.js';
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

type CheckedSettings = Pick<AgentSettings, 'privileges' | 'user' | 'maxConnectionsPerWorkload'>;

const trialTimeoutMs = 5000;
/** Says that the namespace of a trial is made. */
const readyLine = 'made';
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
    filesCheck(settings),
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

/** Of this process. A unit or a container has its own. */
function filesCheck(settings: CheckedSettings): HostCheck {
  const problem = filesProblem(settings);
  if (problem !== null)
    return warn('files', `an agent that is started here runs short: ${problem}`, filesHint(settings));
  const fit = connectionsThatFit();
  const many = Number.isFinite(fit) ? `${fit} connections` : 'any number of connections';
  return ok('files', `an agent that is started here may open enough files for ${many}`);
}

/** Loads the rules of a workload, and dials as one would. */
async function captureChecks(): Promise<HostCheck[]> {
  const runner = new CommandRunner({ maxParallel: 2 });
  let backend: NetfilterBackend;
  try {
    backend = await detectBackend(runner);
  } catch (error) {
    const { message, hint } = partsOf(error, 'CAPTURE_TOOL');
    return [
      fail('iptables', message, hint ?? 'the agent needs an iptables that runs: apt-get install --reinstall iptables'),
    ];
  }
  try {
    await using trial = await Trial.start();
    trial.listen();
    return await rulesChecks(trial, runner, backend);
  } catch (error) {
    // Nothing is known of iptables then, and its rules may well count.
    return [
      fail('trial', `whether its rules load and count is not known: ${partsOf(error).message}`, hintOfTrial(error)),
    ];
  }
}

/** Errors: those of a dial in the namespace. */
async function rulesChecks(trial: Trial, runner: CommandRunner, backend: NetfilterBackend): Promise<HostCheck[]> {
  const what = `iptables (${backend.kind})`;
  let loaded: Awaited<ReturnType<Trial['load']>>;
  try {
    loaded = await trial.load(runner, backend);
  } catch (error) {
    const { message, hint = kernelHint } = partsOf(error);
    return [fail('iptables', `the rules of a workload do not load with ${what}: ${message}`, hint)];
  }
  const results = await Promise.all(([4, 6] as const).map((family) => trial.dial(family)));
  await loaded.capture.stop();
  const unknown = `whether the rules of ${what} count is not known`;
  const [first] = results.filter((result) => result !== 'captured' && result !== 'no-route');
  if (first === 'unanswered') {
    return [fail('trial', `${unknown}: ${selfTestProblems.unanswered ?? ''}`, 'the host is busy: try again')];
  }
  if (first !== undefined) {
    const hint = 'are there two iptables, of which the kernel uses the other? See iptables -V and update-alternatives';
    return [fail('iptables', `the rules of ${what} load, and do not count: a test connection passed them by`, hint)];
  }
  if (!results.includes('captured')) {
    const said = trial.problem === '' ? '' : `: ${trial.problem}`;
    const hint = 'ip (iproute2) has to give lo an address of IPv4 or IPv6 there';
    return [fail('trial', `${unknown}: nothing can be dialled in a new network namespace${said}`, hint)];
  }
  return [
    ok('iptables', `the rules of ${what} load and count`),
    ...(loaded.guard === null ? [] : [warn('guard', loaded.guard, 'see security.md, "What a host has"')]),
  ];
}

const kernelHint =
  'the kernel needs its modules for nat, conntrack, connmark, owner, addrtype and CT: nf_nat, xt_REDIRECT, nft_compat…';
const rightsHint = 'in a container, this check needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run it on the host';

/** `hintOf`: only an error of this code says better what to do than the check does. */
function partsOf(error: unknown, hintOf?: string): { readonly message: string; readonly hint?: string } {
  if (!(error instanceof CulvertError)) return { message: describeError(error) };
  const { message, hint, code } = error;
  return { message, ...(hint === undefined || (hintOf !== undefined && code !== hintOf) ? {} : { hint }) };
}

/** Of a step that needs rights, and not of iptables. */
function hintOfTrial(error: unknown): string {
  const { code, hint } = error instanceof CulvertError ? error : { code: '', hint: undefined };
  return code === 'EPERM' || code === 'EACCES' ? rightsHint : (hint ?? rightsHint);
}

/** What unshare says, and what to do. Its names of errors are those of the C library. */
const unshareFailures: readonly (readonly [said: RegExp, hint: string])[] = [
  [/Operation not permitted|Permission denied/, rightsHint],
  [/No space left on device/, 'the host has as many as it may: sysctl user.max_net_namespaces'],
  [/Invalid argument/, 'the kernel needs CONFIG_NET_NS'],
  [/failed to execute|No such file or directory/, 'the host needs sh: apt-get install dash'],
  [/Cannot allocate memory|Resource temporarily unavailable/, 'the host is short of memory or processes'],
];

/** A network namespace that leads nowhere and has no name that a running agent sees, with a listener in place of an agent. */
class Trial implements AsyncDisposable {
  /** What could not be given the namespace, for people; empty: nothing. */
  readonly problem: string;
  readonly #holder: ChildProcessWithoutNullStreams;
  readonly #netnsPath: string;
  readonly #netns: OpenNetns;
  readonly #servers: Server[] = [];

  private constructor(holder: ChildProcessWithoutNullStreams, problem: string) {
    this.#holder = holder;
    this.problem = problem;
    this.#netnsPath = `/proc/${holder.pid ?? 0}/ns/net`;
    this.#netns = openNetns(this.#netnsPath);
  }

  /** Errors: `TRIAL`, where no namespace can be made; those of {@link openNetns}. */
  static async start(): Promise<Trial> {
    const unshare = findProgram('unshare');
    if (unshare === null) throw noTrial('unshare is not installed', 'apt-get install util-linux');
    const script = [...[4, 6].map((family) => `{ ${wayOut(family)}; } 2>&1`), `echo ${readyLine}; read _`].join('; ');
    const env = { ...process.env, LC_ALL: 'C', PATH: programPath() };
    const holder = spawn(unshare, ['--net', 'sh', '-c', script], { stdio: 'pipe', env });
    holder.stdin.on('error', () => undefined);
    let [said, complaint] = ['', ''];
    holder.stderr.on('data', (part: Buffer) => (complaint += part.toString('utf8')));
    const ready = new Promise<boolean>((resolve, reject) => {
      holder.stdout.on('data', (part: Buffer) => {
        said += part.toString('utf8');
        if (said.endsWith(`${readyLine}\n`)) resolve(true);
      });
      holder.once('close', () => resolve(false));
      holder.once('error', (cause) => reject(noTrial(`unshare cannot be started: ${cause.message}`, rightsHint)));
    });
    if (await ready) {
      const lines = said.split('\n').filter((line) => line !== '' && line !== readyLine);
      try {
        return new Trial(holder, lines.join('; '));
      } catch (error) {
        holder.stdin.end();
        throw error;
      }
    }
    const why =
      complaint.trim() === '' ? `unshare --net ended with ${holder.exitCode ?? 'a signal'}` : complaint.trim();
    const [, hint] = unshareFailures.find(([pattern]) => pattern.test(why)) ?? [];
    throw noTrial(`no network namespace can be made: ${why}`, hint ?? rightsHint);
  }

  /** In place of an agent. Errors: those of {@link listenTcp}. */
  listen(): void {
    const { fd } = this.#netns;
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
  }

  /** Errors: those of capture. */
  async load(runner: CommandRunner, backend: NetfilterBackend) {
    const workload = {
      name: 'culvert/check' as WorkloadName,
      netnsPath: this.#netnsPath,
      addresses: [],
      exclusions: noExclusions,
    };
    const { inode } = this.#netns;
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
    this.#holder.stdin.end();
    await ended;
  }
}

function noTrial(message: string, hint: string): CulvertError {
  return new CulvertError({ code: 'TRIAL', message, hint });
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
