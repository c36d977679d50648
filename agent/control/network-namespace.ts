import { stat, statfs } from 'node:fs/promises';
import { describeError } from '../../shared/errors.js';

export type FoundNamespace =
  | { readonly kind: 'found'; readonly path: string; readonly inode: number }
  | { readonly kind: 'missing'; readonly problem: string };

/** `NSFS_MAGIC` of linux/magic.h: what a namespace file lies on. A leftover of `ip netns` is a plain file. */
const nsfsMagic = 0x6e736673;

/** `web` is /run/netns/web (as `ip netns` names them); anything absolute is taken as it is. */
export function namespacePath(netns: string): string {
  return netns.startsWith('/') ? netns : `/run/netns/${netns}`;
}

/** Looks at the namespace a workload names. What is not there yet is an expected outcome, not an error. */
export async function findNamespace(netns: string): Promise<FoundNamespace> {
  const path = namespacePath(netns);
  if (!netns.startsWith('/') && !/^[A-Za-z0-9][A-Za-z0-9._@:-]*$/.test(netns)) {
    return { kind: 'missing', problem: `"${netns}" is neither a name under /run/netns nor an absolute path` };
  }
  try {
    const { type } = await statfs(path);
    if (type !== nsfsMagic) return { kind: 'missing', problem: `${path} is not a network namespace (any more)` };
    return { kind: 'found', path, inode: (await stat(path)).ino };
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return {
      kind: 'missing',
      problem: isAbsent ? `the network namespace ${path} does not exist` : `${path}: ${describeError(error)}`,
    };
  }
}

/** The inode of this process's own network namespace, which must never be captured. */
export async function ownNamespaceInode(): Promise<number> {
  return (await stat('/proc/self/ns/net')).ino;
}
