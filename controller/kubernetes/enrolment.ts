import type { ClusterNamespace } from './namespace.js';
import type { Pod } from './pod.js';

/** On a namespace, and on a pod, whose own word counts more. */
const meshLabel = 'culvert.dev/mesh';

/** Istio's, on both. Understood where the cluster's people ask for it. */
const istioLabel = 'istio.io/dataplane-mode';
const istioWords: Readonly<Record<string, string>> = { ambient: 'enabled', none: 'disabled' };

/** Never in the mesh: what runs there starts nodes and networks, and must not wait for the mesh. */
const outside: ReadonlySet<string> = new Set(['kube-system', 'kube-public', 'kube-node-lease']);

export type Enrolment = {
  readonly isEnrolled: boolean;
  /** What a person must know; null: nothing. */
  readonly problem: string | null;
};

/** Whether pods of this namespace are in the mesh unless they say otherwise. */
export function isEnrolledNamespace(
  { name, labels }: ClusterNamespace,
  ownNamespace: string,
  takesAmbient = false,
): boolean {
  return wordOf(labels, takesAmbient) === 'enabled' && mayBeEnrolled(name, ownNamespace);
}

/**
 * What labels say of the mesh; undefined: nothing. Ours counts more than Istio's on the same object, and a word of Istio that is
 * neither `ambient` nor `none` says nothing.
 */
function wordOf(labels: Readonly<Record<string, string>> | undefined, takesAmbient: boolean): string | undefined {
  const own = labels?.[meshLabel] ?? '';
  if (own !== '') return own;
  const word = takesAmbient ? (labels?.[istioLabel] ?? '') : '';
  return Object.hasOwn(istioWords, word) ? istioWords[word] : undefined;
}

/** Whether pods of the namespace can be in the mesh at all. */
export function mayBeEnrolled(namespace: string, ownNamespace: string): boolean {
  return !outside.has(namespace) && namespace !== ownNamespace;
}

/**
 * Whether a pod is in the mesh. `namespaceLabels` undefined: its namespace is not known (yet), so only the pod's own label
 * counts. `ownNamespace`: in which the controller and the agents are. `takesAmbient`: the label of Istio's ambient mode counts,
 * too.
 */
export function enrolmentOf(
  pod: Pick<Pod, 'namespace' | 'labels' | 'isMirror' | 'isOnHost'>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
  ownNamespace: string,
  takesAmbient = false,
): Enrolment {
  if (pod.isOnHost || pod.isMirror) return { isEnrolled: false, problem: null };
  const said = wordOf(pod.labels, takesAmbient) ?? wordOf(namespaceLabels, takesAmbient);
  if (said === undefined || said === 'disabled') return { isEnrolled: false, problem: null };
  if (said !== 'enabled') {
    return { isEnrolled: false, problem: `the label ${meshLabel} is "${said}", and must be "enabled" or "disabled"` };
  }
  if (!mayBeEnrolled(pod.namespace, ownNamespace)) {
    return { isEnrolled: false, problem: `pods of the namespace ${pod.namespace} stay outside the mesh` };
  }
  return { isEnrolled: true, problem: null };
}
