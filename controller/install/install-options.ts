import type { Condition } from './slots.js';

/**
 * What differs between two installations in a cluster: the values of the Helm chart, under the same names. What each of them
 * means is in `install-values.ts`.
 */
export type InstallValues<Flag = boolean> = {
  readonly namespace: string;
  readonly createNamespace: Flag;
  readonly image: string;
  readonly imagePullSecrets: readonly { readonly name: string }[];
  readonly trustDomain: string;
  readonly hostProbes: string;
  readonly ambientLabels: Flag;
  readonly startupTaint: Flag;
  readonly controller: {
    readonly replicas: number;
    readonly storage: {
      readonly kind: string;
      readonly accessMode: string;
      readonly size: string;
      readonly className: string;
      readonly path: string;
    };
    readonly resources: object;
    readonly podDisruptionBudget: Flag;
    readonly networkPolicy: Flag;
  } & PodValues;
  readonly webhook: { readonly enabled: Flag; readonly failurePolicy: string };
  readonly policies: readonly string[];
  readonly agent: {
    readonly privileges: string;
    readonly resources: object;
    readonly seLinuxType: string;
    readonly surge: Flag;
  } & PodValues;
  readonly cni: { readonly enabled: Flag; readonly configDirectory: string; readonly binDirectory: string };
  readonly openShift: Flag;
  readonly quotaForCriticalPods: Flag;
  readonly monitoring: { readonly podMonitor: Flag; readonly alertRules: Flag; readonly dashboard: Flag };
};

/** On which nodes pods are, and what an installation adds to them, as Kubernetes has it. */
export type PodValues = {
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly nodeAffinity: object;
  readonly tolerations: readonly object[];
  readonly podAnnotations: Readonly<Record<string, string>>;
  readonly extraArgs: readonly string[];
  readonly extraEnv: readonly object[];
  readonly extraVolumes: readonly object[];
  readonly extraVolumeMounts: readonly object[];
};

/** Nodes with Linux that run pods of DaemonSets: neither Fargate of EKS nor Virtual Kubelet. */
export const realNodes = {
  requiredDuringSchedulingIgnoredDuringExecution: {
    nodeSelectorTerms: [
      {
        matchExpressions: [
          { key: 'kubernetes.io/os', operator: 'In', values: ['linux'] },
          { key: 'eks.amazonaws.com/compute-type', operator: 'NotIn', values: ['fargate'] },
          { key: 'type', operator: 'NotIn', values: ['virtual-kubelet'] },
        ],
      },
    ],
  },
} as const;

/** Of a container that may touch what is the node's, where SELinux is enforced; elsewhere it means nothing. */
export const usualSeLinuxType = 'spc_t';

const usualPod = {
  nodeSelector: {},
  nodeAffinity: realNodes,
  podAnnotations: {},
  extraArgs: [],
  extraEnv: [],
  extraVolumes: [],
  extraVolumeMounts: [],
} as const;

/** How long a pod stays on a node that is dead, in place of the five minutes that a cluster gives it. */
const deadNodeSeconds = 30;

const leavesDeadNodes = ['not-ready', 'unreachable'].map((state) => ({
  key: `node.kubernetes.io/${state}`,
  operator: 'Exists',
  effect: 'NoExecute',
  tolerationSeconds: deadNodeSeconds,
}));

/** With it a node registers that takes no pod before its agent captures them. */
export const startupTaintKey = 'culvert.dev/agent-not-ready';

/** Values as they are, or slots for those of a chart. */
export type InstallOptions = InstallValues<Condition>;

/** What an installation of a version has where nothing else is said. */
export function defaultValues(version: string): InstallValues {
  return {
    namespace: 'culvert-system',
    createNamespace: true,
    image: `culvert:${version}`,
    imagePullSecrets: [],
    trustDomain: 'culvert.local',
    hostProbes: 'uid:0',
    ambientLabels: false,
    startupTaint: false,
    controller: {
      replicas: 1,
      storage: { kind: 'claim', accessMode: 'ReadWriteOnce', size: '5Gi', className: '', path: '' },
      ...usualPod,
      tolerations: leavesDeadNodes,
      resources: { requests: { cpu: '100m', memory: '256Mi' } },
      podDisruptionBudget: true,
      networkPolicy: true,
    },
    webhook: { enabled: true, failurePolicy: 'Ignore' },
    policies: [],
    agent: {
      privileges: 'split',
      seLinuxType: usualSeLinuxType,
      surge: true,
      ...usualPod,
      tolerations: [{ operator: 'Exists' }],
      resources: { requests: { cpu: '100m', memory: '128Mi' } },
    },
    cni: { enabled: true, configDirectory: '/etc/cni/net.d', binDirectory: '/opt/cni/bin' },
    openShift: false,
    quotaForCriticalPods: false,
    monitoring: { podMonitor: false, alertRules: false, dashboard: false },
  };
}

/** An object of Kubernetes, as it is applied. */
export type KubernetesObject = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
};

export const controllerName = 'culvert-controller';
export const agentName = 'culvert-agent';
/** What takes an agent's traces off its node, and its account. */
export const cleanupName = 'culvert-cleanup';
/** What lets the accounts use the SecurityContextConstraints `privileged`. */
export const privilegedName = 'culvert-privileged';
/** The Lease of which of two controllers serves. */
export const leaseName = controllerName;
export const rootsConfigMap = 'culvert-ca';
/** The ValidatingWebhookConfiguration by which the API server asks about rules. */
export const webhookName = 'culvert';
/** The user of the controller, which is no user of any host. */
export const controllerUser = 65_532;
export const apiPort = 15_443;
export const natsPort = 4222;
/** Of an agent, at the address of its node. */
export const metricsPort = 15_020;

/** What is on each object, so that all of them can be listed and removed. */
export function labelsOf(component: 'controller' | 'agent' | 'mesh'): Readonly<Record<string, string>> {
  return {
    'app.kubernetes.io/name': 'culvert',
    'app.kubernetes.io/component': component,
    'app.kubernetes.io/part-of': 'culvert',
  };
}

/** What selects the pods of a component. */
export function selectorOf(component: 'controller' | 'agent'): Readonly<Record<string, string>> {
  return { 'app.kubernetes.io/name': 'culvert', 'app.kubernetes.io/component': component };
}
