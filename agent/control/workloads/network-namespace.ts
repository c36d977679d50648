import { existsSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import { netnsInode } from '../../native/netns.js';

export type FoundNamespace =
  | { readonly kind: 'found'; readonly path: string; readonly inode: number }
  | { readonly kind: 'missing'; readonly problem: string };

/** `web` is /run/netns/web (as `ip netns` names them); anything absolute is taken as it is. */
export function namespacePath(netns: string): string {
  return netns.startsWith('/') ? netns : `/run/netns/${netns}`;
}

/**
 * Looks at the namespace a workload names. What is not there yet is an expected outcome, not an error. Two system calls,
 * done at once: through Node's pool of threads they would cost an idle agent ten times as much.
 */
export function findNamespace(netns: string): FoundNamespace {
  const path = namespacePath(netns);
  if (!netns.startsWith('/') && !/^[A-Za-z0-9][A-Za-z0-9._@:-]*$/.test(netns)) {
    return { kind: 'missing', problem: `"${netns}" is neither a name under /run/netns nor an absolute path` };
  }
  try {
    const inode = netnsInode(path);
    if (inode !== undefined) return { kind: 'found', path, inode };
    const isThere = existsSync(path);
    return {
      kind: 'missing',
      problem: isThere
        ? `${path} is not a network namespace (any more)`
        : `the network namespace ${path} does not exist`,
    };
  } catch (error) {
    return { kind: 'missing', problem: `${path}: ${describeError(error)}` };
  }
}
