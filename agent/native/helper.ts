import { type ChildProcess, spawn } from 'node:child_process';
import net from 'node:net';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { CulvertError } from '../../shared/errors.js';
import { callAddon, closeFd } from './addon.js';

/** See ask.c and confinement.c. */
type HelperAddon = {
  useHelper(fd: number, path: string, isFoundAgain: boolean): void;
  pingHelper(): number;
  helperPair(): [ours: number, theirs: number];
  runProgram(netns: number, payload: Buffer): [output: number, errors: number, code: number];
  becomeHelper(program: string, user: string): void;
  confine(uid: number, gid: number): void;
  closeMemory(): void;
};

/** A user of this host, by its numbers. */
export type HostUser = { readonly uid: number; readonly gid: number };

/** What a program of the helper printed, and its exit code. */
export type ProgramResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** The addon knows it for all threads. */
let isHelped = false;

const helperFile = fileURLToPath(new URL('./culvert-helper', import.meta.url));
/** In the helper: after its standard streams. */
const channelFd = 3;

/**
 * Starts a privileged helper of this process, which must be root. From then on every call of this folder that needs
 * capabilities is a request to it, in all threads. It reads the token file too. It ends with this process. Throws
 * `HELPER_LOST` if it cannot be started.
 */
export function startHelper(o: { readonly tokenFile: string | null } = { tokenFile: null }): ChildProcess {
  const [ours, theirs] = callAddon('making a channel', (addon: HelperAddon) => addon.helperPair());
  try {
    const stdio = ['ignore', 'ignore', 'inherit', theirs] as const;
    const args = ['--channel', String(channelFd), ...(o.tokenFile === null ? [] : [o.tokenFile])];
    const child = spawn(helperFile, args, { stdio: [...stdio] });
    child.on('error', () => undefined);
    if (child.pid === undefined) throw helperLost(`${helperFile} cannot be started`);
    callAddon('using the privileged helper', (addon: HelperAddon) => addon.useHelper(ours, '', false));
    isHelped = true;
    child.unref();
    return child;
  } finally {
    closeFd(theirs);
  }
}

/**
 * Replaces this program by the helper of a user's agents, which listens on the one socket that systemd has passed
 * (sd_listen_fds(3)). Throws `HELPER_SOCKET` without such a socket.
 */
export function becomeHelper(user: HostUser, env: NodeJS.ProcessEnv): void {
  if (env['LISTEN_PID'] !== String(process.pid) || env['LISTEN_FDS'] !== '1') {
    throw new CulvertError({
      code: 'HELPER_SOCKET',
      message: 'there is no socket to listen on',
      hint: 'systemd starts this command for culvert-helper.socket; an agent that is started as root brings its own helper',
    });
  }
  callAddon('becoming the helper', (addon: HelperAddon) => addon.becomeHelper(helperFile, String(user.uid)));
}

/**
 * Connects this process to a helper that another unit of the host runs; `isFoundAgain`: also to the one after it. Throws
 * `HELPER_LOST`.
 */
export function connectHelper(path: string, o: { readonly isFoundAgain: boolean } = { isFoundAgain: false }): void {
  try {
    callAddon(`connecting to ${path}`, (addon: HelperAddon) => addon.useHelper(-1, path, o.isFoundAgain));
    isHelped = true;
  } catch (cause) {
    throw helperLost(`there is no privileged helper at ${path}`, cause);
  }
}

/**
 * For a supervisor: without root it asks the same helper as its agents, which then cannot write its memory; with root
 * none. Throws `HELPER_LOST`.
 */
export function shareHelper(o: { readonly privileges: 'split' | 'whole'; readonly helperSocket: string }): void {
  if (o.privileges !== 'split' || process.geteuid?.() === 0) return;
  callAddon('closing the memory of the supervisor', (addon: HelperAddon) => addon.closeMemory());
  connectHelper(o.helperSocket, { isFoundAgain: true });
}

/** Whether capabilities are a helper's, not this process's, on the thread that began with it. Also after the helper has ended. */
export function hasHelper(): boolean {
  return isHelped;
}

/** The process id of the helper. Throws `EPIPE` when it has ended, or does not answer. */
export function pingHelper(): number {
  return callAddon('asking the privileged helper', (addon: HelperAddon) => addon.pingHelper());
}

/**
 * Takes from all threads of this process, for ever: its user (root becomes this one), every capability, new privileges by
 * programs, and system calls that no part of the agent makes, execve among them. Throws when any thread has something left.
 */
export function confine({ uid, gid }: HostUser): void {
  callAddon('giving up privileges', (addon: HelperAddon) => addon.confine(uid, gid));
}

/**
 * Has the helper run a program of capture, which it kills after 15 s. Throws `EPERM` for one that is not on its list, and
 * `HELPER_LOST` when it ended meanwhile. `netnsFd` null: in the helper's own namespace.
 */
export async function runThroughHelper(o: {
  readonly netnsFd: number | null;
  readonly argv: readonly string[];
  readonly input: string;
}): Promise<ProgramResult> {
  const payload = Buffer.from(`${[...o.argv, ''].map((word) => `${word}\0`).join('')}${o.input}`);
  const fds = callAddon(`running ${o.argv[0] ?? ''}`, (addon: HelperAddon) =>
    addon.runProgram(o.netnsFd ?? -1, payload),
  );
  const [stdout, stderr, code] = await Promise.all(fds.map((fd) => text(readable(fd))));
  if (code === undefined || stdout === undefined || stderr === undefined || !/^\d+\n$/.test(code)) {
    throw helperLost(`the privileged helper ended while it ran ${o.argv[0] ?? ''}`);
  }
  return { code: Number(code), stdout, stderr };
}

/** The helper, without which nothing can be opened or loaded. */
export function helperLost(what: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'HELPER_LOST',
    message: what,
    hint: 'the log has why it ended; with systemd: systemctl status culvert-helper.socket culvert-helper',
    ...(cause === undefined ? {} : { cause }),
  });
}

function readable(fd: number): Readable {
  return new net.Socket({ fd, readable: true, writable: false });
}
