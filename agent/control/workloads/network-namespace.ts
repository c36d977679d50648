import { existsSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import { podOfNetns } from '../../../shared/routing/registry-entry.js';
import { netnsInode } from '../../native/netns.js';

export type FoundNamespace =
  | { readonly kind: 'found'; readonly path: string; readonly inode: number }
  | { readonly kind: 'missing'; readonly problem: string };

/** `web` means /run/netns/web, as in `ip netns`. An absolute path is used as it is. */
export function namespacePath(netns: string): string {
  return netns.startsWith('/') ? netns : `/run/netns/${netns}`;
}

/**
 * Finds the namespace that a workload names. A namespace that does not exist yet is an expected outcome, not an error.
 * Makes two system calls synchronously: through Node's thread pool they would cost an idle agent ten times as much.
 */
export function findNamespace(netns: string): FoundNamespace {
  const pod = podOfNetns(netns);
  if (pod !== null) return { kind: 'missing', problem: `the sandbox of the pod ${pod} is not on this node yet` };
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
        ? `${path} is not a network namespace, or no longer one`
        : `the network namespace ${path} does not exist`,
    };
  } catch (error) {
    return { kind: 'missing', problem: `${path}: ${describeError(error)}` };
  }
}

/** Directories in which container runtimes and `ip netns` have network namespaces. */
const directories = ['/run/netns/', '/var/run/netns/'];

/**
 * The path of a namespace as this agent sees it, which may run in a container where /var/run is no link to /run. Null: it is not
 * a name directly below one of the allowed directories.
 */
export function allowedNetnsPath(path: string): string | null {
  const directory = directories.find((each) => path.startsWith(each));
  if (directory === undefined) return null;
  const name = path.slice(directory.length);
  return /^[A-Za-z0-9_][A-Za-z0-9._@:+-]*$/.test(name) ? `/run/netns/${name}` : null;
}
