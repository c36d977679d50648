import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { findNamespace, type FoundNamespace } from './network-namespace.js';

export type NamespaceFound = Extract<FoundNamespace, { kind: 'found' }>;

/** By `namespace/name` of the workload: its namespace, or why it cannot be captured (yet). */
export type WorkloadNamespaces = {
  readonly found: ReadonlyMap<string, NamespaceFound>;
  readonly problems: ReadonlyMap<string, string>;
};

/** Looks for the namespace of each workload. One that is the agent's own, or that another workload has, is none. */
export function findWorkloadNamespaces(
  wanted: ReadonlyMap<string, WorkloadEntry>,
  ownInode: number,
): WorkloadNamespaces {
  const found = new Map<string, NamespaceFound>();
  const problems = new Map<string, string>();
  const owners = new Map<number, string>();
  for (const [name, entry] of wanted) {
    const namespace = findNamespace(entry.netns ?? '');
    if (namespace.kind === 'missing') {
      problems.set(name, namespace.problem);
      continue;
    }
    const owner = owners.get(namespace.inode);
    if (namespace.inode === ownInode) {
      problems.set(name, `${namespace.path} is the agent's own network namespace`);
    } else if (owner !== undefined) {
      problems.set(name, `${namespace.path} is the network namespace of ${owner} already`);
    } else {
      found.set(name, namespace);
      owners.set(namespace.inode, name);
    }
  }
  return { found, problems };
}
