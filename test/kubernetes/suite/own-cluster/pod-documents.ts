import type { Cluster } from '../../cluster/cluster.js';
import type { ClusterNode } from '../../cluster/cluster-node.js';
import type { Pod } from '../test-namespace.js';

/**
 * Discovery by hand: a Workload document for each pod of a namespace that has a network of its own, with the network namespace
 * that containerd gave it, and a Service document for each Service. JSON documents, which are YAML, several.
 */
export async function podDocuments(cluster: Cluster, namespace: string): Promise<string> {
  const namespaces = new Map<string, string>();
  for (const node of cluster.nodes) for (const [uid, path] of await networksOf(node)) namespaces.set(uid, path);
  const pods = (await cluster.kubectl.json(['-n', namespace, 'get', 'pods'])) as List<FullPod>;
  const services = (await cluster.kubectl.json(['-n', namespace, 'get', 'services'])) as List<Service>;
  const documents = [
    ...pods.items.flatMap((pod) => {
      const netns = namespaces.get(pod.metadata.uid);
      return netns === undefined ? [] : [workloadOf(pod, namespace, netns)];
    }),
    ...services.items.map((service) => serviceOf(service, namespace)),
  ];
  return documents.map((document) => JSON.stringify(document)).join('\n---\n');
}

type List<T> = { readonly items: readonly T[] };
type FullPod = Pod & {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly serviceAccountName: string };
};
type Service = {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly clusterIPs: readonly string[];
    readonly selector: Readonly<Record<string, string>>;
    readonly ports: readonly { readonly port: number; readonly targetPort: number }[];
  };
};

function workloadOf({ metadata, spec, status }: FullPod, namespace: string, netns: string): object {
  const { name, labels } = metadata;
  const addresses = (status.podIPs ?? []).map(({ ip }) => ip);
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: { namespace, name, labels },
    spec: { serviceAccount: spec.serviceAccountName, node: spec.nodeName, addresses, netns },
  };
}

function serviceOf({ metadata: { name }, spec }: Service, namespace: string): object {
  const ports = spec.ports.map(({ port, targetPort }) => ({ port, targetPort }));
  const own = { vips: spec.clusterIPs, ports, selector: spec.selector };
  return { apiVersion: 'culvert.dev/v1', kind: 'Service', metadata: { namespace, name }, spec: own };
}

/** By the uid of the pod: the name of its network namespace in the node's /run/netns. */
async function networksOf(node: ClusterNode): Promise<[uid: string, netns: string][]> {
  const containers = ['ctr', '--namespace', 'k8s.io', 'containers'];
  const listed = await node.succeed([...containers, 'ls', '-q', 'labels."io.cri-containerd.kind"==sandbox']);
  const found: [string, string][] = [];
  for (const id of listed.split('\n').filter((line) => line !== '')) {
    const info = JSON.parse(await node.succeed([...containers, 'info', id])) as Sandbox;
    const path = info.Spec.linux.namespaces.find(({ type }) => type === 'network')?.path;
    const uid = info.Labels['io.kubernetes.pod.uid'];
    if (path !== undefined && uid !== undefined) found.push([uid, path.replace('/var/run/netns/', '')]);
  }
  return found;
}

type Sandbox = {
  readonly Labels: Readonly<Record<string, string>>;
  readonly Spec: {
    readonly linux: { readonly namespaces: readonly { readonly type: string; readonly path?: string }[] };
  };
};
