import { addressesThere } from '../../capture/namespace-addresses.js';
import { findNamespace, type FoundNamespace } from './network-namespace.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { WantedWorkload } from './own-workloads.js';

export type NamespaceFound = Extract<FoundNamespace, { kind: 'found' }>;

/** The namespace of each workload, or why it cannot be captured (yet). */
export type WorkloadNamespaces = {
  readonly found: ReadonlyMap<WorkloadName, NamespaceFound>;
  readonly problems: ReadonlyMap<WorkloadName, string>;
};

type Entry = Pick<WantedWorkload, 'netns' | 'addresses'>;
type Claim = {
  readonly name: WorkloadName;
  readonly addresses: Entry['addresses'];
  readonly namespace: NamespaceFound;
};

/** Who has had a namespace so far. */
export type Holders = {
  /** This run of the agent has captured it. */
  readonly hasCaptured: (name: WorkloadName, inode: number) => boolean;
  /** Rules were loaded for it, perhaps by an earlier run. */
  readonly isInLedger: (name: WorkloadName, inode: number) => boolean;
  /** This run brings it in. */
  readonly isHeld: (name: WorkloadName, inode: number) => boolean;
};

/**
 * Finds the namespace of each workload. The agent's own namespace, and one that another workload has, are problems. Several
 * documents may name one namespace, also by paths that differ. The one that has it keeps it, also after a restart, so a later
 * document takes it from no workload. Of new ones it goes to the one whose addresses it has, because two documents cannot
 * have the same; then to one that names it in /run/netns, because a path through a process leads elsewhere when that ends;
 * then to the first by name.
 */
export function findWorkloadNamespaces(
  wanted: ReadonlyMap<WorkloadName, Entry>,
  { ownInode, holders }: { readonly ownInode: number; readonly holders: Holders },
): WorkloadNamespaces {
  const found = new Map<WorkloadName, NamespaceFound>();
  const problems = new Map<WorkloadName, string>();
  const claims = new Map<number, Claim[]>();
  for (const [name, { netns, addresses }] of wanted) {
    const namespace = findNamespace(netns ?? '');
    if (namespace.kind === 'missing') problems.set(name, namespace.problem);
    else if (namespace.inode === ownInode) {
      problems.set(name, `${namespace.path} is the agent's own network namespace`);
    } else {
      claims.set(namespace.inode, [...(claims.get(namespace.inode) ?? []), { name, addresses, namespace }]);
    }
  }
  for (const these of claims.values()) {
    const [owner, ...others] = these.length === 1 ? these : inOrder(these, holders);
    if (owner === undefined) continue;
    found.set(owner.name, owner.namespace);
    for (const { name, namespace } of others) {
      problems.set(name, `${namespace.path} is already the network namespace of ${owner.name}`);
    }
  }
  return { found, problems };
}

/** The first one gets the namespace. */
function inOrder(claims: readonly Claim[], { hasCaptured, isInLedger, isHeld }: Holders): readonly Claim[] {
  const ranked = claims.map((claim) => {
    const { name, addresses, namespace } = claim;
    const merits = [
      hasCaptured(name, namespace.inode),
      isInLedger(name, namespace.inode),
      isHeld(name, namespace.inode),
      addressesThere(namespace.path, addresses).length > 0,
      namespace.path.startsWith('/run/netns/'),
    ];
    return { claim, key: `${merits.map((has) => (has ? '0' : '1')).join('')}${name}` };
  });
  return ranked.toSorted((a, b) => (a.key < b.key ? -1 : 1)).map(({ claim }) => claim);
}
