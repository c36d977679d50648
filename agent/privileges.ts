import type { ChildProcess } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CulvertError, describeError } from '../shared/errors.js';
import { actingCapabilities, capabilityMissing, missingCapabilities, requireCapabilities } from './capabilities.js';
import { cgroupOfHelper, type CgroupFound, enterOwnCgroup } from './capture/own-cgroup.js';
import type { AgentSettings } from './config/agent-settings.js';
import { namesInAgentState } from './control/state/state-directory.js';
import { findUser } from './host-user.js';
import { confine, connectHelper, helperLost, type HostUser, pingHelper, startHelper } from './native/helper.js';

/** How often the helper is asked whether it is there: about 20 µs each. */
const pingIntervalMs = 1000;

type PrivilegeSettings = Pick<AgentSettings, 'privileges' | 'user' | 'helperSocket' | 'stateDir' | 'tokenFile'>;

/** Who does what needs capabilities. */
export type Privileges = {
  /** In which cgroup the agent's sockets are made. */
  readonly cgroup: CgroupFound;
  /** Resolves when the helper has ended or hangs: nothing can be opened or loaded any more. Never without a helper. */
  readonly helperLost: Promise<CulvertError>;
};

/**
 * Call it before the first socket is made and before anything of the network is read. Afterwards this process has no
 * capability and is not root, unless the settings say `whole`. Throws CulvertError `USER_MISSING`, `HELPER_LOST`,
 * `STATE_READ`, `CAPABILITY_MISSING` for root with less than it takes, or `NOT_ROOT` for `whole` without root. `supervisor`: its
 * process id; null: none.
 */
export function separatePrivileges(settings: PrivilegeSettings, supervisor: number | null): Privileges {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) requireCapabilities(actingCapabilities, 'it cannot work in the network namespaces of workloads');
  if (settings.privileges === 'whole') {
    return { cgroup: enterOwnCgroup(supervisor), helperLost: new Promise(() => undefined) };
  }
  if (!isRoot) {
    findHelper(settings.helperSocket);
    const pid = askedPid();
    const own = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    confine(own);
    return { cgroup: cgroupOfHelper(pid), helperLost: watchHelper(null) };
  }
  const user = findUser(settings.user);
  requireCapabilities(['SETGID', 'SETUID'], `it cannot become the user ${settings.user}`);
  // Sockets belong to the cgroup of the process that makes them, and the helper is born into that of this one.
  const cgroup = enterOwnCgroup(supervisor);
  giveStateDirectory(settings.stateDir, user);
  const helper = startHelper(settings);
  const pid = askedPid();
  confine(user);
  assertReadable(settings);
  return { cgroup: 'problem' in cgroup ? cgroup : { ...cgroup, process: pid }, helperLost: watchHelper(helper) };
}

function findHelper(path: string): void {
  try {
    connectHelper(path);
  } catch (cause) {
    throw new CulvertError({
      code: 'NOT_ROOT',
      message: `the agent needs Linux and root, or a privileged helper: ${describeError(cause)}`,
      hint: 'start it with sudo, or as the systemd unit',
      cause,
    });
  }
}

function askedPid(): number {
  try {
    return pingHelper();
  } catch (cause) {
    throw helperLost('the privileged helper does not answer', cause);
  }
}

async function watchHelper(child: ChildProcess | null): Promise<CulvertError> {
  return await new Promise((resolve) => {
    const timer = setInterval(() => {
      try {
        pingHelper();
      } catch (error) {
        end(describeError(error));
      }
    }, pingIntervalMs).unref();
    const end = (why: string): void => {
      clearInterval(timer);
      resolve(helperLost(`the privileged helper is lost: ${why}`));
    };
    child?.once('exit', (code, signal) =>
      end(signal === null ? `it ended with ${code ?? 'no code'}` : `${signal} ended it`),
    );
  });
}

/**
 * Gives the user the directory and what Culvert has in it, as far as it is root's: what a version before, or a command that
 * root ran, has left. Nothing else: it may be `/etc`, by a slip. A name that leads elsewhere (a link, of whatever kind) stays.
 */
function giveStateDirectory(path: string, user: HostUser): void {
  try {
    makeDirectory(path);
  } catch {
    // What writes there says why that cannot be.
    return;
  }
  // So does it of something else in its place.
  if (isNoDirectory(path)) return;
  try {
    giveCulvertNames(path, user);
  } catch (error) {
    const isRefused = error instanceof Error && 'code' in error && (error.code === 'EPERM' || error.code === 'EACCES');
    const missing = isRefused ? missingCapabilities(['CHOWN', 'DAC_OVERRIDE']) : [];
    if (missing.length === 0) throw error;
    throw capabilityMissing(missing, `it cannot give its state to its user: ${describeError(error)}`, error);
  }
}

function giveCulvertNames(path: string, user: HostUser): void {
  openCulvertDirectory(dirname(path));
  const there = readdirSync(path);
  const own = there.filter((name) =>
    namesInAgentState.names.some((known) => name === known || name.startsWith(`${known}.`)),
  );
  for (const name of own) give(join(path, name), user);
  if (own.length === there.length) give(path, user);
}

/** Of `/var/lib/culvert` and the like, which a controller of root made for root. What is in it keeps others out itself. */
function openCulvertDirectory(path: string): void {
  const { uid, mode } = lstatSync(path);
  if (basename(path) === 'culvert' && uid === 0 && (mode & 0o011) !== 0o011) chmodSync(path, (mode & 0o777) | 0o011);
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    // What leads to the state has no secret itself.
    chmodSync(dirname(path), 0o755);
    makeDirectory(path);
  }
}

function give(path: string, { uid, gid }: HostUser): void {
  const seen = lstatSync(path, { throwIfNoEntry: false });
  if (seen === undefined || seen.uid !== 0) return;
  if (seen.isSocket()) {
    lchownSync(path, uid, gid);
    return;
  }
  if (!seen.isFile() && !seen.isDirectory()) return;
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const found = fstatSync(fd);
    if (found.uid === 0 && (found.isDirectory() || (found.isFile() && found.nlink === 1))) fchownSync(fd, uid, gid);
  } finally {
    closeSync(fd);
  }
}

/** Something else is in its place, or there is nothing. */
function isNoDirectory(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true;
  } catch (error) {
    // What this user may not look at may be one.
    return error instanceof Error && 'code' in error && error.code === 'ENOTDIR';
  }
}

/** What it must read and write from now on. A start that fails says why; one that fails later would not. */
function assertReadable({ stateDir, user }: PrivilegeSettings): void {
  const needed = [
    ...(isNoDirectory(stateDir) ? [] : [[stateDir, constants.R_OK | constants.W_OK | constants.X_OK] as const]),
    // Its parts are loaded when they are needed.
    [process.argv[1] ?? '/', constants.R_OK],
  ] as const;
  for (const [path, mode] of needed) {
    try {
      accessSync(path, mode);
    } catch (error) {
      // Not writable for anyone: the agent says so when it writes, as of a state directory that is not there.
      if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) continue;
      throw cannotUse(path, error, user);
    }
  }
}

function cannotUse(path: string, cause: unknown, user: string): CulvertError {
  return new CulvertError({
    code: 'STATE_READ',
    message: `the user ${user} of the agent cannot use ${path}: ${describeError(cause)}`,
    hint: 'let it enter the directories above (chmod o+x), and own its state directory (chown); or start it with --privileges whole',
    cause,
  });
}
