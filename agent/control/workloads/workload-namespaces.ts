import { findNamespace, type FoundNamespace } from './network-namespace.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { WantedWorkload } from './own-workloads.js';

export type NamespaceFound = Extract<FoundNamespace, { kind: 'found' }>;

/** The namespace of each workload, or why it cannot be captured (yet). */
export type WorkloadNamespaces = {
  readonly found: ReadonlyMap<WorkloadName, NamespaceFound>;
  readonly problems: ReadonlyMap<WorkloadName, string>;
};

/** Finds the namespace of each workload. The agent's own namespace, and one that another workload has, are problems. */
export function findWorkloadNamespaces(
  wanted: ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns'>>,
  ownInode: number,
): WorkloadNamespaces {
  const found = new Map<WorkloadName, NamespaceFound>();
  const problems = new Map<WorkloadName, string>();
  const owners = new Map<number, WorkloadName>();
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
      problems.set(name, `${namespace.path} is already the network namespace of ${owner}`);
    } else {
      found.set(name, namespace);
      owners.set(namespace.inode, name);
    }
  }
  return { found, problems };
}
