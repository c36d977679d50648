import type { ClusterNamespace } from './namespace.js';
import type { Pod } from './pod.js';

/** On a namespace, and on a pod, whose own word counts more. */
const meshLabel = 'culvert.dev/mesh';

/** Never in the mesh: what runs there starts nodes and networks, and must not wait for the mesh. */
const outside: ReadonlySet<string> = new Set(['kube-system', 'kube-public', 'kube-node-lease']);

export type Enrolment = {
  readonly isEnrolled: boolean;
  /** What a person must know; null: nothing. */
  readonly problem: string | null;
};

/** Whether pods of this namespace are in the mesh unless they say otherwise. */
export function isEnrolledNamespace({ name, labels }: ClusterNamespace, ownNamespace: string): boolean {
  return labels[meshLabel] === 'enabled' && mayBeEnrolled(name, ownNamespace);
}

/** Whether pods of the namespace can be in the mesh at all. */
export function mayBeEnrolled(namespace: string, ownNamespace: string): boolean {
  return !outside.has(namespace) && namespace !== ownNamespace;
}

/**
 * Whether a pod is in the mesh. `namespaceLabels` undefined: its namespace is not known (yet), so only the pod's own label
 * counts. `ownNamespace`: in which the controller and the agents are.
 */
export function enrolmentOf(
  pod: Pick<Pod, 'namespace' | 'labels' | 'isMirror' | 'isOnHost'>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
  ownNamespace: string,
): Enrolment {
  if (pod.isOnHost || pod.isMirror) return { isEnrolled: false, problem: null };
  const own = pod.labels[meshLabel];
  const said = own === undefined || own === '' ? namespaceLabels?.[meshLabel] : own;
  if (said === undefined || said === '' || said === 'disabled') return { isEnrolled: false, problem: null };
  if (said !== 'enabled') {
    return { isEnrolled: false, problem: `the label ${meshLabel} is "${said}", and must be "enabled" or "disabled"` };
  }
  if (!mayBeEnrolled(pod.namespace, ownNamespace)) {
    return { isEnrolled: false, problem: `pods of the namespace ${pod.namespace} stay outside the mesh` };
  }
  return { isEnrolled: true, problem: null };
}
