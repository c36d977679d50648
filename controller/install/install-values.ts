import { foreignKinds } from '../resources/kinds/policies-of-others.js';
import type { InstallValues } from './install-options.js';

/** What a value of the chart means, and which texts it may be. */
export type ValueNote = {
  readonly help: string;
  /** As JSON Schema, on top of the type of its default. */
  readonly schema?: Readonly<Record<string, unknown>>;
};

const dnsLabel = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
export const valuePatterns = {
  namespace: dnsLabel,
  image: '^[\\w./:@-]+$',
  hostProbes: '^(uid|cgroup|port):[\\w@:.,/-]+$',
  quantity: '^\\d+(\\.\\d+)?([KMGTPE]i?)?$',
  seLinuxType: '^\\w*$',
  /** Absolute, without `..`. */
  directory: '^(/\\.?[\\w-][\\w.-]*)+/?$',
} as const;

/** As the setting of the agent has them. */
export const agentPrivileges = ['split', 'whole'] as const;
const storageKinds = ['claim', 'host-path', 'empty-dir'] as const;
export const accessModes = ['ReadWriteOnce', 'ReadWriteMany'] as const;
/** What the API server does with a rule while the controller does not answer. */
export const failurePolicies = ['Ignore', 'Fail'] as const;
/** What `policies` may name. */
export const policyKinds: readonly string[] = foreignKinds.map(({ kind }) => kind);

type Leaves = { readonly [path: string]: ValueNote };

const texts = { additionalProperties: { type: 'string' } } as const;
const objects = { items: { type: 'object' } } as const;

/** Of {@link PodValues}. */
function podNotes(of: 'agent' | 'controller', tolerations: string): Leaves {
  return {
    [`${of}.nodeSelector`]: {
      help:
        of === 'agent'
          ? 'Labels of the nodes that have an agent. Pods of other nodes are outside the mesh; take them out before you leave out a node that has an agent.'
          : 'Labels of the nodes that the controller may run on.',
      schema: texts,
    },
    [`${of}.nodeAffinity`]: {
      help: 'Which nodes take its pods at all: those with Linux that are no virtual ones. What cleans nodes goes by that of the agents.',
    },
    [`${of}.tolerations`]: { help: tolerations, schema: objects },
    [`${of}.podAnnotations`]: { help: 'Of its pods.', schema: texts },
    [`${of}.extraArgs`]: {
      help: `More of the command line, such as other settings of culvert-${of}.`,
      schema: { items: { type: 'string' } },
    },
    [`${of}.extraEnv`]: { help: 'More environment, as Kubernetes has it.', schema: objects },
    [`${of}.extraVolumes`]: {
      help: 'More volumes of its pods, such as a secret that extraArgs name.',
      schema: objects,
    },
    [`${of}.extraVolumeMounts`]: { help: 'Where the container has them.', schema: objects },
  };
}

/** Each value, by its path. What has a row is one value, also where it is a map. */
export const valueNotes: Leaves = {
  namespace: {
    help: 'Where controller and agents run; their pods stay outside the mesh. Empty: the namespace of the release of Helm, or culvert-system where that is default.',
    schema: { pattern: `^$|${valuePatterns.namespace}` },
  },
  createNamespace: {
    help: 'Whether the namespace is made with the labels that it needs, unless it is that of the release of Helm. Where it exists, label it yourself: pod-security.kubernetes.io/enforce=privileged and culvert.dev/mesh=disabled.',
  },
  image: {
    help: 'Container image with the programs; deploy/container makes one.',
    schema: { pattern: valuePatterns.image },
  },
  imagePullSecrets: {
    help: 'Names of secrets of the namespace with which nodes fetch the image: [{ name: NAME }].',
    schema: {
      items: {
        type: 'object',
        required: ['name'],
        additionalProperties: false,
        properties: { name: { type: 'string', minLength: 1 } },
      },
    },
  },
  trustDomain: {
    help: 'Of every identity; fixed at the first start.',
    schema: { pattern: '^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$' },
  },
  hostProbes: {
    help: 'Who on a node may probe its pods without a rule: uid:0 is kubelet and all of root there; cgroup:/system.slice/kubelet.service is narrower, where kubelet is that unit.',
    schema: { pattern: valuePatterns.hostProbes },
  },
  ambientLabels: {
    help: "Whether istio.io/dataplane-mode=ambient on a namespace or a pod brings pods into the mesh, as culvert.dev/mesh=enabled does, and none keeps them out. Only where Istio's own ambient mode does not run.",
  },
  startupTaint: {
    help: 'Whether the controller takes the taint culvert.dev/agent-not-ready off a node as soon as its agent captures new pods. For nodes that register with it, so that no pod of the mesh starts there before. The controller may then change nodes.',
  },
  'controller.replicas': {
    help: 'Controllers: with 2, one stands by and takes over when the other dies. Both need the same state: claim or host-path, not empty-dir.',
    schema: { type: 'integer', enum: [1, 2] },
  },
  'controller.storage.kind': {
    help: "Where the controller's state is, which has the CA: claim (a volume of the cluster), host-path (a directory of the node that nodeSelector names), or empty-dir (lost with the pod, for a trial).",
    schema: { enum: storageKinds },
  },
  'controller.storage.accessMode': {
    help: 'Of the claim: ReadWriteOnce (pods of one node), or ReadWriteMany, with which a second controller stands by on another node.',
    schema: { enum: accessModes },
  },
  'controller.storage.size': {
    help: 'Of the claim. Audit log and flow records take a gibibyte each, and a quarter of a smaller volume each.',
    schema: { pattern: valuePatterns.quantity },
  },
  'controller.storage.className': { help: "Storage class of the claim; empty: the cluster's default." },
  'controller.storage.path': {
    help: 'Directory of host-path.',
    schema: { pattern: `^$|${valuePatterns.directory}` },
  },
  ...podNotes(
    'controller',
    'What it runs on in spite of taints, and for how long. A controller leaves a dead node after 30 s: keep these two in a list of your own.',
  ),
  'controller.resources': { help: 'Of the container, as Kubernetes has them.' },
  'controller.podDisruptionBudget': {
    help: 'Whether a drain of nodes takes one controller at a time, where the other one can be on another node.',
  },
  'controller.networkPolicy': {
    help: 'Whether only the ports of the controller can be reached, where the CNI enforces it.',
  },
  'webhook.enabled': {
    help: 'Whether the API server asks the controller about rules before it takes them, so that kubectl says at once what is wrong.',
  },
  'webhook.failurePolicy': {
    help: 'What the API server does with a rule while the controller does not answer: Ignore takes it, and its status says later what is wrong; Fail refuses it.',
    schema: { enum: failurePolicies },
  },
  policies: {
    help: `Kinds of Kubernetes, its Gateway API and Istio whose objects are rules and routes too, and are never written: ${policyKinds.join(', ')} (for the labels that they select by). The controller may read those only.`,
    schema: { items: { type: 'string', enum: policyKinds }, uniqueItems: true },
  },
  'agent.privileges': {
    help: 'split: what parses the network has no capability, and a helper in the same container keeps NET_ADMIN and SYS_ADMIN. whole: one process has both; for a policy of the cluster that refuses SETUID or SETGID.',
    schema: { enum: agentPrivileges },
  },
  'agent.resources': {
    help: 'Of the container, as Kubernetes has them. An agent that reaches a limit of its memory ends, and with it the connections of its node.',
  },
  'agent.seLinuxType': {
    help: 'SELinux type of the container, which writes into directories of the node; it means nothing on nodes without SELinux. Empty: what the runtime gives.',
    schema: { pattern: valuePatterns.seLinuxType },
  },
  'agent.surge': {
    help: 'Whether an update makes the new agent of a node before the old one ends, so that no new connection is refused. On a full node the new one may push out pods of applications for that time; false has the old one end first.',
  },
  ...podNotes('agent', 'What it runs on in spite of taints: everything.'),
  'cni.enabled': {
    help: 'Whether agents put their plugin into the CNI chain of their node. Without it a new pod is outside the mesh for up to half a second.',
  },
  'cni.configDirectory': {
    help: 'Where the nodes have the configuration of CNI.',
    schema: { pattern: valuePatterns.directory },
  },
  'cni.binDirectory': {
    help: 'Where the nodes have the CNI plugins.',
    schema: { pattern: valuePatterns.directory },
  },
  openShift: {
    help: 'Whether the accounts of controller, agents and of the pods that clean nodes may use the SecurityContextConstraints privileged, which only OpenShift has.',
  },
  quotaForCriticalPods: {
    help: 'Whether a quota allows pods of the classes system-node-critical and system-cluster-critical in the namespace. A cluster that limits them to kube-system needs it, such as GKE.',
  },
  'monitoring.podMonitor': {
    help: 'Whether the operator of Prometheus scrapes agents and controller. Agents then serve their metrics at the address of the node, to everyone who reaches it.',
  },
  'monitoring.alertRules': { help: 'Whether there is a PrometheusRule with alerts.' },
  'monitoring.dashboard': { help: "Whether there is a ConfigMap with a dashboard, for Grafana's sidecar." },
};

/** The value at a path. */
export function valueAt(values: InstallValues, path: string): unknown {
  return path.split('.').reduce<unknown>((tree, key) => (tree as Record<string, unknown>)[key], values);
}
