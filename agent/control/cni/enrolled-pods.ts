import type { WorkloadName } from '../../../shared/routing/names.js';
import { findNamespace, namespacePath } from '../workloads/network-namespace.js';
import type { WantedWorkload } from '../workloads/own-workloads.js';

/** A pod as the CNI plugin names it, and its network namespace. */
export type StartingPod = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly netnsPath: string;
  readonly netnsInode: number;
};

/** `unknown`: not yet. */
export type Enrolment =
  | { readonly kind: 'workload'; readonly name: WorkloadName }
  | { readonly kind: 'notEnrolled' }
  | { readonly kind: 'unknown' };

/** Says which pods of this node belong into the mesh. */
export type EnrolledPods = {
  /** The workload that the reconciler brings in with this namespace. */
  find(pod: StartingPod): Enrolment;
  /** Namespaces of Kubernetes with pods that must not start without an agent; null: not known yet. */
  namespaces(): ReadonlySet<string> | null;
};

/**
 * A pod is enrolled when a registered workload of this node names its network namespace. Namespaces are those of the registered
 * workloads.
 */
export class RegisteredPods implements EnrolledPods {
  readonly #wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns'>> | null;
  readonly #isComplete: () => boolean;

  constructor(init: {
    /** The workloads of this node that must be captured; null: not known yet. */
    readonly wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns'>> | null;
    /** Whether every workload of the mesh is known. */
    readonly isComplete: () => boolean;
  }) {
    this.#wanted = init.wanted;
    this.#isComplete = init.isComplete;
  }

  find({ netnsPath, netnsInode }: StartingPod): Enrolment {
    const wanted = [...(this.#wanted() ?? [])];
    const named =
      wanted.find(([, { netns }]) => namespacePath(netns ?? '') === netnsPath) ??
      wanted.find(([, { netns }]) => {
        const found = findNamespace(netns ?? '');
        return found.kind === 'found' && found.inode === netnsInode;
      });
    if (named !== undefined) return { kind: 'workload', name: named[0] };
    return this.#isComplete() ? { kind: 'notEnrolled' } : { kind: 'unknown' };
  }

  namespaces(): ReadonlySet<string> | null {
    const wanted = this.#wanted();
    if (wanted === null || !this.#isComplete()) return null;
    return new Set([...wanted.keys()].map((name) => name.slice(0, name.indexOf('/'))));
  }
}
