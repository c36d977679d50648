import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { CulvertError } from '../../../shared/errors.js';
import { readProcFile } from '../../native/addon.js';

type Netns = { readonly fd: number; readonly inode: number };

/** Runs `listen`; when another socket has the port, the error names its owner, where that can be told. */
export function withHolder<T>(netns: Netns, port: number, listen: () => T): T {
  try {
    return listen();
  } catch (error) {
    if (!(error instanceof CulvertError) || error.code !== 'EADDRINUSE') throw error;
    const { code, message, hint } = error;
    const named = `${message}: ${holderOf(netns, port)} has it`;
    throw new CulvertError({ code, message: named, ...(hint === undefined ? {} : { hint }), cause: error });
  }
}

function holderOf(netns: Netns, port: number): string {
  const [found] = ['tcp', 'tcp6'].flatMap((table) => listenersOn(port, tableOf(netns, table)));
  if (found === undefined) return 'a socket that is bound to it and does not listen';
  const process = processWith(netns.inode, found.socketInode);
  return process === null ? `a program of uid ${found.uid}` : `${process} of uid ${found.uid}`;
}

type Listener = { readonly uid: number; readonly socketInode: string };

/** `table` as in Documentation/networking/proc_net_tcp.rst: state 0A is listening, and such sockets come first. */
export function listenersOn(port: number, table: string): readonly Listener[] {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const line = new RegExp(String.raw`^ *\d+: [0-9A-F]+:${hex} [0-9A-F]+:0000 0A \S+ \S+ \S+ +(\d+) +\d+ (\d+) `, 'gm');
  return [...table.matchAll(line)].map(([, uid, socketInode = '']) => ({ uid: Number(uid), socketInode }));
}

function tableOf({ fd }: Netns, table: string): string {
  try {
    return readProcFile({ netnsFd: fd, path: `/proc/thread-self/net/${table}` });
  } catch {
    return '';
  }
}

/** Looks at the processes in the namespace only: those of a whole host have too many descriptors. */
function processWith(netnsInode: number, socketInode: string): string | null {
  const isIn = (pid: string): boolean => linkOf(`/proc/${pid}/ns/net`) === `net:[${netnsInode}]`;
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || !isIn(pid) || !hasOpen(pid, socketInode)) continue;
    return `pid ${pid} (${nameOf(pid)})`;
  }
  return null;
}

function hasOpen(pid: string, socketInode: string): boolean {
  try {
    const fds = readdirSync(`/proc/${pid}/fd`);
    return fds.some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === `socket:[${socketInode}]`);
  } catch {
    return false;
  }
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'it has ended';
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
