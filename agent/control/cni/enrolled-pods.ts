import type { WorkloadName } from '../../../shared/routing/names.js';
import type { NodeEnrolment } from '../../../shared/wire/node-enrolment.js';
import { findNamespace, namespacePath } from '../workloads/network-namespace.js';
import type { WantedWorkload } from '../workloads/own-workloads.js';
import type { Enrolled } from './enrolled-list.js';

/** A pod as the CNI plugin names it, and its network namespace. */
export type StartingPod = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly netnsPath: string;
  readonly netnsInode: number;
};

/**
 * `awaited`: its namespace is in the mesh, and nothing is known of the pod itself. `unknown`: not yet. `isLate`: all that is
 * known says that it is not enrolled, but its entry may be on its way.
 */
export type Enrolment =
  | { readonly kind: 'workload'; readonly name: WorkloadName }
  | { readonly kind: 'notEnrolled' }
  | { readonly kind: 'awaited' }
  | { readonly kind: 'unknown'; readonly isLate: boolean };

/** Says which pods of this node belong into the mesh. */
export type EnrolledPods = {
  /** The workload that the reconciler brings in with this namespace. */
  find(pod: StartingPod): Enrolment;
  /** What must not start without an agent, and what may; null: not known yet. */
  enrolled(): Enrolled | null;
};

/**
 * A pod is enrolled when a registered workload of this node names it, by its UID, or its network namespace. The entry of a
 * pod may come after its sandbox. Of a cluster the controller says which namespaces have such pods, and which pods there are
 * outside. Without that, a pod of a namespace that has others on this node is waited for, but not for long.
 */
export class RegisteredPods implements EnrolledPods {
  readonly #wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns' | 'pod'>> | null;
  readonly #isComplete: () => boolean;
  readonly #isCurrent: () => boolean;
  readonly #told: () => NodeEnrolment | null;
  readonly #place: (uid: string, netnsPath: string) => void;

  constructor(init: {
    /** The workloads of this node that must be captured; null: not known yet. */
    readonly wanted: () => ReadonlyMap<WorkloadName, Pick<WantedWorkload, 'netns' | 'pod'>> | null;
    /** Whether every workload of the mesh is known. */
    readonly isComplete: () => boolean;
    /** Whether changes arrive. */
    readonly isCurrent: () => boolean;
    /** What the controller says of pods that are still to start; null: nothing. */
    readonly told: () => NodeEnrolment | null;
    /** Says which namespace a pod has. */
    readonly place: (uid: string, netnsPath: string) => void;
  }) {
    this.#wanted = init.wanted;
    this.#isComplete = init.isComplete;
    this.#isCurrent = init.isCurrent;
    this.#told = init.told;
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
    const told = this.#told();
    if (told?.outside.includes(uid) === true) return { kind: 'notEnrolled' };
    if (!this.#isComplete()) return { kind: 'unknown', isLate: false };
    if (uid === '') return { kind: 'notEnrolled' };
    if (told?.namespaces.includes(namespace) === true) return { kind: 'awaited' };
    const mayCome = this.enrolled()?.namespaces.has(namespace) === true;
    return mayCome ? { kind: 'unknown', isLate: this.#isCurrent() } : { kind: 'notEnrolled' };
  }

  enrolled(): Enrolled | null {
    const wanted = this.#wanted();
    if (wanted === null || !this.#isComplete()) return null;
    const told = this.#told();
    const inside = new Set([...wanted.values()].flatMap(({ pod }) => pod ?? []));
    return {
      namespaces: new Set(
        [...wanted.keys()].map((name) => name.slice(0, name.indexOf('/'))).concat(told?.namespaces ?? []),
      ),
      inside,
      // Its entry may come before this.
      outside: new Set((told?.outside ?? []).filter((uid) => !inside.has(uid))),
    };
  }
}
