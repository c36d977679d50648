import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { CulvertError } from '../../shared/errors.js';
import { callAddon } from './addon.js';

/** An open network namespace. The caller owns the fd, and while it is open the namespace cannot disappear. */
export type OpenNetns = { readonly fd: number; readonly inode: number };

/**
 * Opens `/run/netns/X` or `/proc/PID/ns/net`. Throws with code `ENOENT` if the path does not exist, `EINVAL` if it is
 * not a namespace (for example the empty file that an interrupted `ip netns` leaves).
 */
export function openNetns(path: string): OpenNetns {
  let fd: number;
  try {
    fd = openEither(path);
  } catch (cause) {
    const code = codeOf(cause);
    throw new CulvertError({
      code,
      message: `network namespace ${path} cannot be opened: ${code}`,
      hint: 'see ip netns list; a workload names its namespace in spec.netns',
      cause,
    });
  }
  const { dev, ino } = fstatSync(fd);
  if (dev === namespaceDevice()) return { fd, inode: ino };
  closeSync(fd);
  throw new CulvertError({
    code: 'EINVAL',
    message: `${path} is not a network namespace`,
    hint: 'it is a plain file: remove it and create the namespace again (ip netns add)',
  });
}

/** From fcntl.h: Node does not name it. Nothing is opened but the place, so a FIFO or a device there does nothing. */
const O_PATH = 0o10000000;

/**
 * Keeps the namespace at a path from going, without opening the file: what else may be there is not touched. The fd enters no
 * namespace. Throws like {@link openNetns}.
 */
export function pinNetns(path: string): OpenNetns {
  let fd: number;
  try {
    fd = openSync(path, O_PATH);
  } catch (cause) {
    throw new CulvertError({
      code: codeOf(cause),
      message: `network namespace ${path} cannot be found: ${codeOf(cause)}`,
      hint: 'see ip netns list',
      cause,
    });
  }
  const { dev, ino } = fstatSync(fd);
  if (dev === namespaceDevice()) return { fd, inode: ino };
  closeSync(fd);
  throw new CulvertError({ code: 'EINVAL', message: `${path} is not a network namespace`, hint: 'see ip netns list' });
}

/** The inode of the namespace at a path, or undefined if it does not exist. */
export function netnsInode(path: string): number | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    return found !== undefined && found.dev === namespaceDevice() ? found.ino : undefined;
  } catch (error) {
    if (!isRefused(error)) throw error;
    return inodeByHelper(path);
  }
}

/** The inode of the calling thread's namespace: for the agent, the host's. */
export function ownNetnsInode(): number {
  return statSync('/proc/thread-self/ns/net').ino;
}

let device: number | undefined;

/** All namespaces are inodes of one pseudo file system (nsfs), which stays the same until the kernel restarts. */
function namespaceDevice(): number {
  device ??= statSync('/proc/thread-self/ns/net').dev;
  return device;
}

/** The namespace of another user's process is the privileged helper's to open. */
function openEither(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (!isRefused(error)) throw error;
    return openNetnsFile(path);
  }
}

function inodeByHelper(path: string): number | undefined {
  let fd: number;
  try {
    fd = openNetnsFile(path);
  } catch (error) {
    if (['ENOENT', 'EINVAL'].includes(codeOf(error))) return undefined;
    throw error;
  }
  const { ino } = fstatSync(fd);
  closeSync(fd);
  return ino;
}

function openNetnsFile(path: string): number {
  type Addon = { openNetnsFile(path: string): number };
  return callAddon(`opening ${path}`, (addon: Addon) => addon.openNetnsFile(path));
}

function isRefused(error: unknown): boolean {
  return ['EACCES', 'EPERM'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'EIO';
}
