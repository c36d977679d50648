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

/** `unknown`: not yet. `isLate`: all that is known says that it is not enrolled, but its entry may be on its way. */
export type Enrolment =
  | { readonly kind: 'workload'; readonly name: WorkloadName }
  | { readonly kind: 'notEnrolled' }
  | { readonly kind: 'unknown'; readonly isLate: boolean };

/** Says which pods of this node belong into the mesh. */
export type EnrolledPods = {
  /** The workload that the reconciler brings in with this namespace. */
  find(pod: StartingPod): Enrolment;
  /** Namespaces of Kubernetes with pods that must not start without an agent; null: not known yet. */
  namespaces(): ReadonlySet<string> | null;
};

/**
 * A pod is enrolled when a registered workload of this node names it, by its UID, or its network namespace. Namespaces are
 * those of the registered workloads. The entry of a pod may come after its sandbox, so one of a namespace that has others is
 * waited for.
 */
export class RegisteredPods implements EnrolledPods {
  readonly #wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns' | 'pod'>> | null;
  readonly #isComplete: () => boolean;
  readonly #isCurrent: () => boolean;
  readonly #place: (uid: string, netnsPath: string) => void;

  constructor(init: {
    /** The workloads of this node that must be captured; null: not known yet. */
    readonly wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns' | 'pod'>> | null;
    /** Whether every workload of the mesh is known. */
    readonly isComplete: () => boolean;
    /** Whether changes arrive. */
    readonly isCurrent: () => boolean;
    /** Says which namespace a pod has. */
    readonly place: (uid: string, netnsPath: string) => void;
  }) {
    this.#wanted = init.wanted;
    this.#isComplete = init.isComplete;
    this.#isCurrent = init.isCurrent;
    this.#place = init.place;
  }

  find({ namespace, uid, netnsPath, netnsInode }: StartingPod): Enrolment {
    const wanted = [...(this.#wanted() ?? [])];
    const ofPod = uid === '' ? undefined : wanted.find(([, { pod }]) => pod === uid);
    if (ofPod !== undefined) {
      this.#place(uid, netnsPath);
      return { kind: 'workload', name: ofPod[0] };
    }
    const named =
      wanted.find(([, { netns }]) => namespacePath(netns ?? '') === netnsPath) ??
      wanted.find(([, { netns }]) => {
        const found = findNamespace(netns ?? '');
        return found.kind === 'found' && found.inode === netnsInode;
      });
    if (named !== undefined) return { kind: 'workload', name: named[0] };
    if (!this.#isComplete()) return { kind: 'unknown', isLate: false };
    const mayCome = uid !== '' && this.namespaces()?.has(namespace) === true;
    return mayCome ? { kind: 'unknown', isLate: this.#isCurrent() } : { kind: 'notEnrolled' };
  }

  namespaces(): ReadonlySet<string> | null {
    const wanted = this.#wanted();
    if (wanted === null || !this.#isComplete()) return null;
    return new Set([...wanted.keys()].map((name) => name.slice(0, name.indexOf('/'))));
  }
}
