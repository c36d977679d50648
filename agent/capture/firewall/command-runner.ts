import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { CulvertError } from '../../../shared/errors.js';
import { findProgram, programPath } from '../../../shared/program-path.js';
import { hasHelper, runThroughHelper } from '../../native/helper.js';

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Which iptables: the host's default one, or a back end by name. */
export type IptablesProgram = `${'iptables' | 'ip6tables'}${'' | '-nft' | '-legacy'}`;

/** Every program that capture runs. Another one does not compile: it must be required first, and be declared for the tests. */
export type CaptureProgram =
  | keyof typeof captureTools
  | `${IptablesProgram}${'' | '-save' | '-restore'}`
  | 'sh'
  | 'cat';

export type Command = {
  readonly argv: readonly [program: CaptureProgram, ...args: string[]];
  /** An open fd of the network namespace to run in (it stays the caller's); null: the agent's own. */
  readonly netnsFd: number | null;
  readonly input?: string;
  /** It goes before all that wait for others to end. */
  readonly isUrgent?: boolean;
};

/** Debian package of each program that capture runs and that not every host has. */
export const captureTools = {
  iptables: 'iptables',
  ip6tables: 'iptables',
  ip: 'iproute2',
  nsenter: 'util-linux',
} as const;

export type MissingTool = { readonly command: string; readonly debianPackage: string };

/** No iptables or ip command takes this long. One that does hangs on a lock that is never released. */
const commandTimeoutMs = 15_000;

/** Runs iptables and ip, in other namespaces through nsenter or by the privileged helper, at most `maxParallel` at a time. */
export class CommandRunner {
  readonly #maxParallel: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(init: { maxParallel: number }) {
    this.#maxParallel = init.maxParallel;
  }

  /** Resolves with any exit code. Throws `CAPTURE_TOOL` if the program is missing or hangs. */
  async run(command: Command): Promise<CommandResult> {
    if (this.#running < this.#maxParallel) this.#running++;
    else {
      await new Promise<void>((resolve) => {
        if (command.isUrgent === true) this.#waiting.unshift(resolve);
        else this.#waiting.push(resolve);
      });
    }
    try {
      return hasHelper() ? await runByHelper(command) : await runNow(command);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  /** Like {@link run}, but an exit code other than 0 throws `CAPTURE_RULES` with the program's error output. */
  async must(command: Command): Promise<string> {
    const { code, stdout, stderr } = await this.run(command);
    if (code === 0) return stdout;
    throw new CulvertError({
      code: 'CAPTURE_RULES',
      message: `${command.argv.join(' ')} failed (${code}): ${stderr.trim() || 'no message'}`,
      hint: hintFor(stderr),
    });
  }
}

/**
 * Whether iptables (a library) or the kernel (a module) lacks a match or a target that a rule uses, so that it fails each time.
 * Both back ends say the first text of a library, and the second of a module. The third is all that some versions of
 * iptables-nft say of a module.
 */
export function lacksExtension(error: unknown): boolean {
  if (!(error instanceof CulvertError) || error.code !== 'CAPTURE_RULES') return false;
  return [
    /Couldn't load (match|target) `/,
    /Extension \S+ .*not supported, missing kernel module/,
    /RULE_APPEND failed \(No such file or directory\)/,
  ].some((text) => text.test(error.message));
}

/**
 * Whether a rule was refused as the kernel refuses the path of a cgroup that is not there. iptables-legacy says no more than the
 * line.
 */
export function cannotNameCgroup(error: unknown): boolean {
  if (!(error instanceof CulvertError) || error.code !== 'CAPTURE_RULES') return false;
  return /RULE_APPEND failed \(Invalid argument\)|restore: line \d+ failed\n?$/.test(error.message);
}

function hintFor(stderr: string): string {
  if (/is not up|is down|Nexthop/.test(stderr)) return 'capture needs the loopback interface: ip link set lo up';
  if (/Permission denied|Operation not permitted/.test(stderr))
    return 'run the agent as root; in a container, with NET_ADMIN and SYS_ADMIN (NET_RAW too with iptables-legacy)';
  if (/Couldn't load (match|target) `/.test(stderr))
    return 'iptables lacks the library of that name: apt-get install --reinstall iptables';
  if (/xtables lock/.test(stderr))
    return 'another program keeps the lock of iptables, /run/xtables.lock: see fuser there';
  if (/Memory allocation problem|Cannot allocate memory|No buffer space/.test(stderr))
    return 'the host, or the cgroup of the agent, is short of memory';
  return 'the kernel needs iptables support for nat, conntrack, connmark, owner, addrtype and CT (xt_*, nf_nat, nf_conntrack)';
}

/** The helper enters the namespace itself. */
async function runByHelper({ argv, netnsFd, input }: Command): Promise<CommandResult> {
  const result = await runThroughHelper({ argv, netnsFd, input: input ?? '' });
  if (result.code === 127) throw cannotRun({ name: argv[0], detail: result.stderr.trim(), isMissing: true });
  return result;
}

/** In the child the namespace is always fd 3, because the path may lead to another namespace by now. */
const enterFd3 = ['nsenter', '--net=/proc/self/fd/3', '--'] as const;

async function runNow({ argv, netnsFd, input }: Command): Promise<CommandResult> {
  const [program, ...args]: readonly [string, ...string[]] = netnsFd === null ? argv : [...enterFd3, ...argv];
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe', ...(netnsFd === null ? [] : [netnsFd])],
    env: { ...process.env, LC_ALL: 'C', PATH: programPath() },
  });
  const deadline = setTimeout(() => child.kill('SIGKILL'), commandTimeoutMs);
  const ended = new Promise<number | Error>((resolve) => {
    child.once('error', resolve);
    child.once('close', (code, signal) => resolve(code ?? new Error(`it was killed by ${signal ?? 'a signal'}`)));
  });
  // A program that exits without reading its input is judged by its exit code.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input ?? '');
  const [outcome, out, err] = await Promise.all([ended, readText(child.stdout), readText(child.stderr)]);
  clearTimeout(deadline);
  if (typeof outcome === 'number' && outcome !== 127) return { code: outcome, stdout: out, stderr: err };
  const isMissing = typeof outcome === 'number' || ('code' in outcome && outcome.code === 'ENOENT');
  const name = typeof outcome === 'number' ? argv[0] : program;
  const detail = typeof outcome === 'number' ? err.trim() : outcome.message;
  throw cannotRun({ name, detail, isMissing, cause: outcome });
}

function cannotRun(o: { name: string; detail: string; isMissing: boolean; cause?: unknown }): CulvertError {
  return new CulvertError({
    code: 'CAPTURE_TOOL',
    message: `${o.name} cannot be run: ${o.detail}`,
    hint: o.isMissing
      ? `apt-get install -y ${packageOf(o.name) ?? 'iptables iproute2 util-linux'}`
      : "is the host short of processes, memory or file descriptors? See the agent's limits (systemctl show, ulimit)",
    ...(o.cause === undefined ? {} : { cause: o.cause }),
  });
}

function packageOf(program: string): string | undefined {
  return (captureTools as Readonly<Record<string, string>>)[program];
}

/** Empty if there is no stream: a process that could not be started for lack of descriptors has none. */
async function readText(stream: Readable | null | undefined): Promise<string> {
  if (stream === null || stream === undefined) return '';
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** The programs that capture needs and that are not installed on this host. */
export function findMissingTools(): MissingTool[] {
  return Object.entries(captureTools).flatMap(([command, debianPackage]) =>
    findProgram(command) !== null ? [] : [{ command, debianPackage }],
  );
}
