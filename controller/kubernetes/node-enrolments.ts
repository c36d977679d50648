import { parseNodeName, type NodeName } from '../../shared/routing/names.js';
import { isNamespaceName, isPodUid, type NodeEnrolment } from '../../shared/wire/node-enrolment.js';
import { enrolmentOf, isEnrolledNamespace, mayBeEnrolled } from './enrolment.js';
import type { ClusterNamespace } from './namespace.js';
import type { Pod } from './pod.js';

/** What kubelet calls a pod of a file. A node may write anything there for pods of its own. */
const staticUid = /^[0-9a-f]{32}$/;

export type NodeEnrolments = ReadonlyMap<NodeName, Omit<NodeEnrolment, 'version'>>;

/**
 * What each node with a pod has to know of pods that are still to start. A namespace counts with its label, and with a pod that
 * has the label itself: another one of it may. It then goes on to count (`standing`), so that a label that comes and goes on a
 * pod is news for the node of that pod alone, and not for every node of the cluster.
 */
export function nodeEnrolments(o: {
  readonly pods: Iterable<Pod>;
  readonly namespaces: readonly ClusterNamespace[];
  /** Namespaces of which it cannot be read whether they are in the mesh: their pods wait, as they may be. */
  readonly unknown?: ReadonlySet<string>;
  readonly ownNamespace: string;
  readonly takesAmbient?: boolean;
  /** Namespaces that have had a pod with the label; those that come are added, and those that are gone are taken out. */
  readonly standing?: Set<string>;
}): NodeEnrolments {
  const { unknown = new Set<string>(), standing = new Set<string>(), takesAmbient } = o;
  const labels = new Map(o.namespaces.map((each) => [each.name, each.labels]));
  const enrolled = new Set(
    o.namespaces.filter((each) => isEnrolledNamespace(each, o.ownNamespace, takesAmbient)).map(({ name }) => name),
  );
  const outside = new Map<NodeName, Pod[]>();
  for (const pod of o.pods) {
    const node = pod.node === null ? undefined : parseNodeName(pod.node);
    const present = node === undefined ? undefined : outside.get(node);
    if (node !== undefined && present === undefined) outside.set(node, []);
    if (pod.isOnHost) continue;
    const isIn = enrolmentOf(pod, labels.get(pod.namespace), o.ownNamespace, takesAmbient).isEnrolled;
    if (isIn && !enrolled.has(pod.namespace)) standing.add(pod.namespace);
    if (isIn) enrolled.add(pod.namespace);
    else if (node !== undefined && !unknown.has(pod.namespace)) outside.get(node)?.push(pod);
  }
  for (const name of standing) {
    if (labels.has(name) || unknown.has(name)) enrolled.add(name);
    else if (!enrolled.has(name)) standing.delete(name);
  }
  for (const name of unknown) if (mayBeEnrolled(name, o.ownNamespace)) enrolled.add(name);
  const namespaces = [...enrolled].filter(isNamespaceName).toSorted();
  const uidsOf = (pods: readonly Pod[]): string[] =>
    pods
      .filter(
        ({ namespace, isMirror, runtimeUid }) => enrolled.has(namespace) && (!isMirror || staticUid.test(runtimeUid)),
      )
      .map(({ runtimeUid }) => runtimeUid)
      .filter(isPodUid)
      .toSorted();
  return new Map([...outside].map(([node, pods]) => [node, { namespaces, outside: uidsOf(pods) }]));
}
