import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { CulvertError } from '../../shared/errors.js';

/** An open network namespace. The caller owns the fd, and while it is open the namespace cannot disappear. */
export type OpenNetns = { readonly fd: number; readonly inode: number };

/**
 * Opens `/run/netns/X` or `/proc/PID/ns/net`. Throws with code `ENOENT` if the path does not exist, `EINVAL` if it is
 * not a namespace (for example the empty file that an interrupted `ip netns` leaves).
 */
export function openNetns(path: string): OpenNetns {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'EIO';
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

/** The inode of the namespace at a path, or undefined if it does not exist. */
export function netnsInode(path: string): number | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && found.dev === namespaceDevice() ? found.ino : undefined;
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
