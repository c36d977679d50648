import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';
import { type CommandOptions, type CommandResult, requireSuccess, runCommand } from '../../lab/command.js';
import { makeCgroup, removeCgroup } from '../../lab/lab-cgroups.js';
import { waitUntil } from '../../lab/wait-until.js';
import type { ClusterPlan, NodePlan } from './cluster-plan.js';
import { makeNodeNetwork, netnsOf, removeNodeNetwork } from './node-network.js';
import { declaredInNode, firstProcess, nodeDirectory, nodeScript } from './node-root.js';

/**
 * A machine of the cluster: a process that is the first one of its own namespaces, and all below it. What is on its disk
 * survives `unplug`; /run, processes and networks do not. Every process of the tests can hold one.
 */
export class ClusterNode {
  readonly plan: NodePlan;
  readonly #cluster: ClusterPlan;

  constructor(cluster: ClusterPlan, plan: NodePlan) {
    this.#cluster = cluster;
    this.plan = plan;
  }

  get name(): NodePlan['name'] {
    return this.plan.name;
  }

  /** Of its pods, below the root of each hierarchy. */
  get cgroup(): string {
    return netnsOf(this.#cluster, this.plan);
  }

  /** Turns it on: nothing but its first process runs then. */
  async boot(): Promise<void> {
    await makeNodeNetwork(this.#cluster, this.plan);
    makeCgroup(this.cgroup);
    mkdirSync(path.join(this.#directory, 'log'), { recursive: true });
    const script = nodeScript(this.#cluster, this.plan);
    const namespaces = ['--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', '--propagation', 'private'];
    const netns = `--net=/run/netns/${netnsOf(this.#cluster, this.plan)}`;
    const holder = this.#start('node', ['nsenter', netns, 'unshare', ...namespaces, 'bash', '-c', script]);
    const pid = await waitUntil(`the node ${this.name} is up`, () => this.#firstChildOf(holder), 20_000);
    writeFileSync(this.#pidFile, String(pid));
  }

  /** As if its plug were pulled: every process dies at once, and its network is gone. */
  async unplug(): Promise<void> {
    const pid = this.#pid();
    process.kill(pid, 'SIGKILL');
    await waitUntil(`the node ${this.name} is off`, () => (commandOf(pid) === null ? true : undefined), 20_000);
    rmSync(this.#pidFile);
    await removeNodeNetwork(this.#cluster, this.plan);
    // A boot finds none, and the next kubelet would spend a second on each.
    removeCgroup(this.cgroup);
  }

  /** Runs a program on the node to its end, whatever its exit code. */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return runCommand(this.enter(argv), options);
  }

  /** Like `run`, for a step that must succeed. Returns what it printed. */
  succeed(argv: readonly string[], options?: CommandOptions): Promise<string> {
    return requireSuccess(this.enter(argv), options);
  }

  /** Writes a file on the node. Its folder exists. */
  async write(file: string, text: string): Promise<void> {
    await this.succeed(['sh', '-c', 'cat > "$0"', file], { input: text });
  }

  /** Starts a daemon, which ends with the node. What it prints is appended to `NODE/log/NAME.log`. */
  startDaemon(name: string, argv: readonly string[]): void {
    this.#start(name, this.enter(argv));
  }

  /** Ends a daemon at once, by the name that it has in /proc. Throws unless it ran. */
  async killDaemon(name: string): Promise<void> {
    const look = `for p in /proc/[0-9]*; do read -r c < $p/comm && [ "$c" = "$0" ] && echo "\${p#/proc/}"; done 2>&1; true`;
    const pids = async (): Promise<string[]> => {
      const lines = (await this.succeed(['sh', '-c', look, name])).split('\n');
      return lines.filter((line) => /^\d+$/.test(line));
    };
    const found = await pids();
    await this.succeed(['sh', '-c', 'kill -9 "$@"', 'sh', ...found]);
    await waitUntil(`${name} of ${this.name} has ended`, async () => (await pids()).length === 0 || undefined, 20_000);
  }

  /** The last lines of a daemon's log, for texts of errors. */
  logOf(daemon: string, lines = 15): string {
    const text = readFileSync(path.join(this.#directory, 'log', `${daemon}.log`), 'utf8');
    return text.trim().split('\n').slice(-lines).join('\n');
  }

  /** Folders of this machine with its logs, and what to call them elsewhere. */
  logFolders(): readonly (readonly [from: string, to: string])[] {
    return [
      [path.join(this.#directory, 'log'), 'daemons'],
      [path.join(this.#directory, 'disk/log/pods'), 'pods'],
    ];
  }

  /**
   * What runs a program on the node. Its file system is not the one of this process, but for the folders of the cluster and of
   * the programs.
   */
  enter(argv: readonly string[]): string[] {
    const { directories } = this.#cluster.programs;
    const searchPath = [...Object.values(directories), declaredInNode].join(':');
    const env = [`PATH=${searchPath}`, 'HOME=/root', 'TERM=dumb', 'CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1'];
    const enter = ['nsenter', '-t', String(this.#pid()), '-m', '-u', '-i', '-n', '-p', '--'];
    return [...enter, path.join(declaredInNode, 'env'), '-i', ...env, ...argv];
  }

  /** Returns its process id. It outlives this process. */
  #start(name: string, argv: readonly string[]): number {
    const [program = '', ...args] = argv;
    const log = openSync(path.join(this.#directory, 'log', `${name}.log`), 'a');
    const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    child.on('error', () => {});
    child.unref();
    if (child.pid !== undefined) return child.pid;
    throw new CulvertError({ code: 'COMMAND_NOT_STARTED', message: `"${program}" could not be started.` });
  }

  /** The node's first process as this machine numbers it, once it is what it becomes. */
  #firstChildOf(holder: number): number | undefined {
    if (commandOf(holder) === null) {
      throw new CulvertError({
        code: 'LAB_PROCESS_ENDED',
        message: `The node ${this.name} ended: ${this.logOf('node')}`,
      });
    }
    const children = readFileSync(`/proc/${holder}/task/${holder}/children`, 'utf8').trim();
    const child = Number(children.split(' ')[0]);
    return child > 0 && commandOf(child) === firstProcess ? child : undefined;
  }

  #pid(): number {
    const pid = Number(readFileSync(this.#pidFile, 'utf8'));
    if (commandOf(pid) === firstProcess) return pid;
    throw new CulvertError({ code: 'LAB_PROCESS_ENDED', message: `The node ${this.name} is off.` });
  }

  get #pidFile(): string {
    return path.join(this.#directory, 'pid');
  }

  get #directory(): string {
    return nodeDirectory(this.#cluster, this.plan);
  }
}

/** The name of a process in /proc; null when it has ended. */
function commandOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return null;
  }
}
