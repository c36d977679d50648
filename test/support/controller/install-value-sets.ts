import { defaultValues, type InstallValues } from '../../../controller/install/install-options.js';

const defaults = defaultValues('0.1.0');
const { controller, agent } = defaults;
const pods = {
  nodeSelector: { 'kubernetes.io/arch': 'amd64', 'example.net/disk': '1' },
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: 'example.net/virtual', operator: 'DoesNotExist' }] }],
    },
  },
  tolerations: [{ key: 'example.net/infra', operator: 'Exists' }],
  podAnnotations: { 'example.net/owner': 'mesh', 'example.net/on': 'yes' },
  extraArgs: ['--log-level=debug', '--x={{ y }}'],
  extraEnv: [{ name: 'A', value: '1' }],
  extraVolumes: [{ name: 'extra', secret: { secretName: 'extra' } }],
  extraVolumeMounts: [{ name: 'extra', mountPath: '/extra', readOnly: true }],
} as const;

/** Values of installations that differ in all that can differ, by a name for the test. */
export const installValueSets: Readonly<Record<string, InstallValues>> = {
  'what is there without a word': defaults,
  'everything that can be asked for': {
    ...defaults,
    imagePullSecrets: [{ name: 'registry' }, { name: 'mirror' }],
    startupTaint: true,
    quotaForCriticalPods: true,
    webhook: { enabled: true, failurePolicy: 'Fail' },
    policies: [
      'NetworkPolicy',
      'ClusterNetworkPolicy',
      'AuthorizationPolicy',
      'PeerAuthentication',
      'ServiceEntry',
      'VirtualService',
      'DestinationRule',
      'TCPRoute',
      'ReferenceGrant',
      'Namespace',
    ],
    monitoring: { podMonitor: true, alertRules: true, dashboard: true },
    controller: {
      ...controller,
      storage: { kind: 'claim', accessMode: 'ReadWriteOnce', size: '10Gi', className: 'fast', path: '' },
      ...pods,
      resources: { requests: { cpu: '1', memory: '1Gi' }, limits: { memory: '2Gi' } },
    },
    agent: {
      ...agent,
      ...pods,
      privileges: 'whole',
      seLinuxType: 'container_runtime_t',
      resources: { requests: { cpu: '500m', memory: '1Gi' } },
    },
    openShift: true,
    cni: { enabled: true, configDirectory: '/var/lib/rancher/k3s/agent/etc/cni/net.d', binDirectory: '/k3s/bin' },
  },
  'as little as can be, elsewhere': {
    ...defaults,
    namespace: 'mesh',
    createNamespace: false,
    image: 'registry.test/culvert:1@sha256:ab',
    trustDomain: 'mesh.example.net',
    hostProbes: 'cgroup:/system.slice/kubelet.service',
    ambientLabels: true,
    controller: {
      ...controller,
      storage: { ...controller.storage, kind: 'empty-dir' },
      // Helm merges maps: an empty one takes nothing away.
      resources: { requests: { cpu: '1m', memory: '1Mi' } },
      podDisruptionBudget: false,
      networkPolicy: false,
    },
    webhook: { enabled: false, failurePolicy: 'Ignore' },
    policies: ['NetworkPolicy'],
    agent: {
      ...agent,
      seLinuxType: '',
      surge: false,
      tolerations: [],
      resources: { requests: { cpu: '1m', memory: '1Mi' } },
    },
    cni: { enabled: false, configDirectory: '/k3s/net.d', binDirectory: '/k3s/bin' },
  },
  'the state in a directory of a node': {
    ...defaults,
    controller: {
      ...controller,
      storage: { ...controller.storage, kind: 'host-path', path: '/var/lib/culvert/controller' },
      nodeSelector: { 'kubernetes.io/hostname': 'n1' },
    },
  },
  'a second controller that stands by on the same node': {
    ...defaults,
    controller: {
      ...controller,
      replicas: 2,
      storage: { ...controller.storage, kind: 'host-path', path: '/var/lib/culvert/controller' },
      nodeSelector: { 'kubernetes.io/hostname': 'n1' },
    },
  },
  'a second controller with a claim that one node can have': {
    ...defaults,
    controller: { ...controller, replicas: 2 },
  },
  'a second controller on another node': {
    ...defaults,
    controller: { ...controller, replicas: 2, storage: { ...controller.storage, accessMode: 'ReadWriteMany' } },
  },
};
