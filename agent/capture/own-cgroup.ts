import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { describeError } from '../../shared/errors.js';

/**
 * The cgroup (v2) that only agents are in. A socket belongs for ever to the cgroup in which it was made, and only root of
 * the host may enter one, so rules can tell the agent's sockets from those of a workload, whatever capabilities that has.
 */
export type OwnCgroup = {
  /** As `-m cgroup --path` takes it. */
  readonly path: string;
  /** Another one after a restart: a cgroup with the same path that was made again, which loaded rules do not mean. */
  readonly inode: number;
  /** The process that makes the sockets: this one, or the privileged helper. */
  readonly process: number;
  /** Who may be in it, with the processes that descend from them: the agent, its supervisor, its helper. */
  readonly members: readonly number[];
};

/** What a host has: a cgroup of the agent's own, or why there is none. */
export type CgroupFound = OwnCgroup | { readonly problem: string };

/** Where the agent goes when it shares its cgroup with other programs, for example with the shell that started it. */
const dedicatedPath = '/culvert-agent';
/** From Linux 6.1 on a path is one in the cgroup namespace of the process that loads the rule. */
const pathsAreNamespacedSince = [6, 1] as const;
/** Inode of the cgroup namespace that the kernel starts with (PROC_CGROUP_INIT_INO in include/linux/proc_ns.h). */
const firstNamespace = 'cgroup:[4026531835]';
/** In /proc/PID/mountinfo (proc(5)): captured is the place. */
const wholeHierarchy = /^\d+ \d+ \S+ \/ ([^ \\]+) .* - cgroup2 /gm;
/** iptables takes no more, and quotes other characters in its own ways. */
const usablePath = /^(?:\/(?!\.)[\w@:.-]+)+$/;
const longestPath = 500;

/**
 * Stays in the cgroup of this process if only the agent and its supervisor are in it, as in a systemd unit; otherwise moves
 * this process to one for agents. Call it before the first socket is made. `supervisor`: the process id; null: none. Never
 * throws.
 */
export function enterOwnCgroup(supervisor: number | null): CgroupFound {
  try {
    const place = ownPlace();
    if ('problem' in place) return place;
    const { path, mount, isFirst } = place;
    const own = [process.pid, ...(supervisor === null ? [] : [supervisor])];
    // The root of the host has everything in it, and that of a container what is in the container.
    const isNameable = isUsable(path) || (path === '/' && !isFirst);
    if (isNameable && isAlone(join(mount, path), own)) return found(mount, path, process.pid, own);
    return moveTo(mount, own);
  } catch (error) {
    return { problem: `the agent has no cgroup of its own: ${describeError(error)}` };
  }
}

/**
 * Why no agent that starts here can have a cgroup of its own; null: one can, unless the hierarchy is read-only. Moves nothing.
 */
export function cgroupProblem(): string | null {
  try {
    const place = ownPlace();
    return 'problem' in place ? place.problem : null;
  } catch (error) {
    return describeError(error);
  }
}

function ownPlace():
  | { readonly path: string; readonly mount: string; readonly isFirst: boolean }
  | { problem: string } {
  const path = pathOf('self');
  const mount = path === null ? null : mountPoint();
  if (path === null || mount === null) return { problem: 'no cgroup v2 hierarchy is mounted' };
  const isFirst = readlinkSync('/proc/self/ns/cgroup') === firstNamespace;
  if (!isFirst && !areNamespaced(release())) {
    return { problem: 'in a container, cgroups of Linux before 6.1 cannot be named in a rule' };
  }
  return { path, mount, isFirst };
}

/** The cgroup of a privileged helper that another unit of the host runs, if only the helper is in it. Never throws. */
export function cgroupOfHelper(pid: number): CgroupFound {
  try {
    const path = pathOf(pid);
    const mount = path === null ? null : mountPoint();
    if (path === null || mount === null) return { problem: 'no cgroup v2 hierarchy is mounted' };
    if (isUsable(path) && isAlone(join(mount, path), [pid])) return found(mount, path, pid, [pid]);
    return { problem: `the privileged helper has no cgroup of its own: it is in ${path}` };
  } catch (error) {
    return { problem: `the cgroup of the privileged helper cannot be found: ${describeError(error)}` };
  }
}

/** Why rules that name the agent's cgroup no longer mean its new sockets; null: it is where it was. Never throws. */
export function movedFrom(cgroup: OwnCgroup): string | null {
  try {
    const now = pathOf(cgroup.process);
    if (now === cgroup.path) return null;
    return `the agent was moved from the cgroup ${cgroup.path} to ${now}: what it opens is refused until its rules are loaded again`;
  } catch (error) {
    return `the agent cannot see its cgroup: ${describeError(error)}`;
  }
}

/** Where the agent is after it was moved: the cgroup, and what its rules are to name. */
type MovedTo = { readonly place: OwnCgroup; readonly found: CgroupFound; readonly sharedProblem: string | null };

/**
 * Where the process that makes the agent's sockets is now; null: where it was, or that cannot be seen. Other programs in that
 * cgroup could pass their sockets off as the agent's with CAP_NET_RAW (`sharedProblem`). Never throws.
 */
export function lookForMove(cgroup: OwnCgroup): MovedTo | null {
  try {
    const path = pathOf(cgroup.process);
    const mount = path === null ? null : mountPoint();
    if (path === null || mount === null) return null;
    const place = found(mount, path, cgroup.process, cgroup.members);
    if (path === cgroup.path && place.inode === cgroup.inode) return null;
    const isRootOfContainer = path === '/' && readlinkSync('/proc/self/ns/cgroup') !== firstNamespace;
    if (!isUsable(path) && !isRootOfContainer) {
      return { place, found: { problem: `it is in the cgroup ${path}, which no rule can name` }, sharedProblem: null };
    }
    const sharedProblem = isAlone(join(mount, path), cgroup.members)
      ? null
      : `a process with CAP_NET_RAW in the cgroup ${path} can leave capture: the agent was moved there, and others are in it`;
    return { place, found: place, sharedProblem };
  } catch {
    return null;
  }
}

/** The inode of a cgroup (v2); null: there is none at this path, or none that this process sees. */
export function cgroupInode(path: string): number | null {
  try {
    const mount = mountPoint();
    return mount === null ? null : statSync(join(mount, path)).ino;
  } catch {
    return null;
  }
}

/** Removes what {@link enterOwnCgroup} made, unless an agent is in it. */
export function removeOwnCgroup(): void {
  try {
    const mount = mountPoint();
    if (mount !== null) rmdirSync(join(mount, dedicatedPath));
  } catch {
    // It is not there, or in use.
  }
}

function moveTo(mount: string, members: readonly number[]): CgroupFound {
  const place = join(mount, dedicatedPath);
  for (let attempt = 1; ; attempt++) {
    mkdirSync(place, { recursive: true });
    try {
      // 0 is the process that writes it, in whatever process namespace.
      writeFileSync(join(place, 'cgroup.procs'), '0');
      break;
    } catch (error) {
      // "culvert-agent remove" took it away in between.
      if (attempt === 3) throw error;
    }
  }
  const path = pathOf('self');
  return path === dedicatedPath
    ? found(mount, path, process.pid, members)
    : { problem: `the agent is in the cgroup ${path}` };
}

function found(mount: string, path: string, pid: number, members: readonly number[]): OwnCgroup {
  return { path, inode: statSync(join(mount, path)).ino, process: pid, members };
}

/** Null: no v2 hierarchy is in use. */
function pathOf(pid: number | 'self'): string | null {
  return /^0::(\/.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? null;
}

/**
 * Where the whole hierarchy is mounted; null: nowhere. Also as this process's parents see it, because "ip netns exec" hides it
 * from a program. It is not mounted once more: that would reset the options that it has.
 */
function mountPoint(): string | null {
  const namespace = readlinkSync('/proc/self/ns/cgroup');
  for (let pid = process.pid; pid > 0; pid = parentOf(pid)) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/cgroup`) !== namespace) return null;
      const table = readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
      const places = [...table.matchAll(wholeHierarchy)].map(([, place]) => `/proc/${pid}/root${place}`);
      // Another mount may hide it.
      const seen = places.find((place) => existsSync(join(place, 'cgroup.procs')));
      if (seen !== undefined) return seen;
    } catch {
      // It has ended, or has more rights than this one.
    }
  }
  return null;
}

function isUsable(path: string): boolean {
  return path.length <= longestPath && usablePath.test(path);
}

function areNamespaced(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.', 2).map((part) => Number.parseInt(part, 10));
  const [sinceMajor, sinceMinor] = pathsAreNamespacedSince;
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

/** Whether every process in a cgroup, and in those below it, is one of these or a child of theirs. */
function isAlone(directory: string, pids: readonly number[]): boolean {
  const own = new Set(pids);
  const below = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const lists = ['cgroup.procs', ...below.filter((name) => name.endsWith('/cgroup.procs'))];
  const inside = lists.flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n').filter(Boolean));
  return inside.every((pid) => isOneOf(own, Number(pid)));
}

/**
 * Whether a process, or one that it descends from, is among these. Where one of these is the first process of a container, all
 * that it did not start was put there by root of the host: a probe of kubelet, or what `kubectl exec` runs.
 */
function isOneOf(own: ReadonlySet<number>, pid: number): boolean {
  for (let at = pid; at > 0; at = parentOf(at)) if (own.has(at)) return true;
  return pid > 0 && own.has(1);
}

/** 0: none, or out of sight. */
function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
