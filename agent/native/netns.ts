import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { CulvertError } from '../../shared/errors.js';

/** An open network namespace. The fd belongs to the caller, and while it is open the namespace cannot disappear. */
export type OpenNetns = { readonly fd: number; readonly inode: number };

/**
 * Opens `/run/netns/X` or `/proc/PID/ns/net`. Throws with code `ENOENT` when there is nothing at that path, `EINVAL`
 * when what is there is no namespace (such as the empty file that `ip netns` leaves when it was interrupted).
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
    hint: 'it is a plain file: remove it, and create the namespace again (ip netns add)',
  });
}

/** The inode of the namespace behind a path, or undefined when there is none (any more). */
export function netnsInode(path: string): number | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && found.dev === namespaceDevice() ? found.ino : undefined;
}

/** The inode of the namespace that the calling thread is in: for the agent, the host's. */
export function ownNetnsInode(): number {
  return statSync('/proc/thread-self/ns/net').ino;
}

let device: number | undefined;

/** All namespaces are inodes of one pseudo file system (nsfs), for as long as the kernel runs. */
function namespaceDevice(): number {
  device ??= statSync('/proc/thread-self/ns/net').dev;
  return device;
}
