import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { readProcFile } from '../native/addon.js';
import { netnsInode, openNetns, ownNetnsInode } from '../native/netns.js';
import { capturePorts } from '../ports.js';
import type { CommandRunner } from './firewall/command-runner.js';
import { readInstalled } from './firewall/installed-rules.js';
import type { NetfilterBackend } from './firewall/netfilter-backend.js';
import { hostMark } from './firewall/chain-plan.js';
import { boundNamespaces } from './bound-namespaces.js';

/** A namespace that is being removed is gone within this many looks at it. */
const maxAttempts = 5;
const betweenAttemptsMs = 200;

export type CapturedNamespace = { readonly path: string; readonly inode: number };

/**
 * The namespaces that contain capture rules of this host's agent, found by looking into every namespace of this machine:
 * those that are bound to a file anywhere, and those of a process. The rules say which host's agent loaded them, so
 * those of another agent (a host within a host) are left alone. Throws `CAPTURE_TOOL` or `CAPTURE_RULES`.
 */
export async function findCapturedNamespaces(o: {
  readonly runner: CommandRunner;
  readonly backend: NetfilterBackend;
}): Promise<readonly CapturedNamespace[]> {
  const mark = hostMark(ownNetnsInode());
  const looked = await Promise.all(
    [...allNamespaces()].map(async ([inode, path]) => {
      const hasMark = async (fd: number): Promise<boolean> => {
        const found = await readInstalled({ ...o, netnsFd: fd });
        return [found[4], found[6]].some(({ tables }) => [...tables.values()].some(({ chains }) => chains.has(mark)));
      };
      const isOurs = await whileItIsThere(path, inode, () => inNamespace(path, inode, hasMark));
      return isOurs === true ? [{ path, inode }] : [];
    }),
  );
  return looked.flat();
}

/**
 * Whether an agent of this host listens in this namespace: a process that is itself in the namespace of this one, where
 * agents run, has a socket on the agent's port. A listener of the workload itself does not count. A
 * socket whose owner cannot be seen (a process in another PID namespace) counts as an agent's.
 */
export async function isServed(path: string): Promise<boolean> {
  const inode = netnsInode(path);
  if (inode === undefined) return false;
  const sockets = await inNamespace(path, inode, async (fd) =>
    ['tcp', 'tcp6'].flatMap((name) => listenersIn(readIfThere(fd, `/proc/thread-self/net/${name}`))),
  );
  return (sockets ?? []).some((socket) => {
    const owners = namespacesOfOwners(socket);
    return owners.size === 0 || owners.has(ownNetnsInode());
  });
}

const agentPort = capturePorts.outbound.toString(16).toUpperCase().padStart(4, '0');
/**
 * From Documentation/networking/proc_net_tcp.rst: state 0A is listening, and such sockets come first. Captured is the
 * inode of the socket; before it come queues, timer, retransmits, user and timeout.
 */
const listenerLine = new RegExp(
  `^ *\\d+: [0-9A-F]+:${agentPort} [0-9A-F]+:0000 0A \\S+ \\S+ \\S+ +\\d+ +\\d+ (\\d+) `,
  'gm',
);

/** Inodes of the sockets that listen on the agent's port. */
function listenersIn(table: string): readonly string[] {
  return [...table.matchAll(listenerLine)].flatMap(([, inode]) => inode ?? []);
}

/** Inodes of the network namespaces of the processes that have a socket open. */
function namespacesOfOwners(socketInode: string): ReadonlySet<number> {
  const isOwner = (pid: string): boolean =>
    entriesOf(`/proc/${pid}/fd`).some((fd) => linkIfThere(`/proc/${pid}/fd/${fd}`) === `socket:[${socketInode}]`);
  return new Set(
    processes()
      .filter(isOwner)
      .flatMap((pid) => inodeIfThere(`/proc/${pid}/ns/net`) ?? []),
  );
}

/** By inode; a name is preferred to a process, which may end. Without the own namespace. */
function allNamespaces(): ReadonlyMap<number, string> {
  const pids = processes();
  const named = [...entriesOf('/run/netns').map((name) => `/run/netns/${name}`), ...boundNamespaces(pids)];
  const ofProcesses = pids.map((pid) => `/proc/${pid}/ns/net`);
  const own = ownNetnsInode();
  const found = new Map<number, string>();
  for (const path of [...named, ...ofProcesses]) {
    const inode = inodeIfThere(path);
    if (inode !== undefined && inode !== own && !found.has(inode)) found.set(inode, path);
  }
  return found;
}

/** Undefined if the namespace has gone, or another one is there by now. */
async function inNamespace<T>(path: string, inode: number, step: (fd: number) => Promise<T>): Promise<T | undefined> {
  let netns: { readonly fd: number; readonly inode: number };
  try {
    netns = openNetns(path);
  } catch {
    return undefined;
  }
  try {
    return netns.inode === inode ? await step(netns.fd) : undefined;
  } finally {
    closeSync(netns.fd);
  }
}

/**
 * Repeats a step that failed, unless the namespace has gone by then, and then gives undefined: a program that removes a
 * namespace kills every process in it, and so also what looks into it from here. Throws what the last attempt throws.
 */
async function whileItIsThere<T>(path: string, inode: number, step: () => Promise<T>): Promise<T | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await step();
    } catch (error) {
      if (inodeIfThere(path) !== inode) return undefined;
      if (attempt === maxAttempts) throw error;
      await delay(betweenAttemptsMs);
    }
  }
}

function processes(): readonly string[] {
  return entriesOf('/proc').filter((name) => /^\d+$/.test(name));
}

function linkIfThere(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function inodeIfThere(path: string): number | undefined {
  try {
    return netnsInode(path);
  } catch {
    // The process ended meanwhile.
    return undefined;
  }
}

function readIfThere(netnsFd: number, path: string): string {
  try {
    return readProcFile({ netnsFd, path });
  } catch {
    return '';
  }
}
