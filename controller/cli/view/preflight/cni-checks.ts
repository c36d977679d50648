import { fail, warn, type Finding } from '../mesh-check.js';
import { itemsOf, type ClusterFacts, type DaemonSetObject } from './cluster-facts.js';
import { notRead, unread } from './texts.js';

/** What makes the network of pods, by the name of its DaemonSet. The first that fits is the one that counts. */
const plugins = [
  { name: 'Cilium', pattern: /^cilium$|^anetd$/ },
  { name: 'Calico', pattern: /^calico-node$|^canal$/ },
  { name: 'Antrea', pattern: /^antrea-agent$/ },
  { name: 'OVN-Kubernetes', pattern: /^ovnkube-node/ },
  { name: 'Amazon VPC CNI', pattern: /^aws-node$/ },
  { name: 'Azure CNI', pattern: /^azure-cns$|^azure-cni/ },
  { name: 'Flannel', pattern: /^kube-flannel/ },
  { name: 'Weave', pattern: /^weave-net$/ },
  { name: 'kube-router', pattern: /^kube-router$/ },
  { name: 'kindnet', pattern: /^kindnet/ },
] as const;

function pluginOf({ daemonSets }: ClusterFacts): string | null {
  const names = itemsOf(daemonSets).map(({ metadata }) => metadata.name);
  return plugins.find(({ pattern }) => names.some((name) => pattern.test(name)))?.name ?? null;
}

export function cniText(facts: ClusterFacts): string {
  const plugin = pluginOf(facts);
  const network =
    plugin === null ? 'no DaemonSet says what makes the network of pods' : `${plugin} makes the network of pods`;
  if (facts.planned.cni === null) return `${network}; no plugin of Culvert is put into its chain`;
  return `${network}; Culvert's plugin goes into ${facts.planned.cni.configDirectory}`;
}

/** What is known of networks of pods that take a chained plugin out, or look for it elsewhere. */
export function cniFindings(facts: ClusterFacts): Finding[] {
  const { cilium, daemonSets, planned } = facts;
  if ('problem' in daemonSets) return [notRead('DaemonSets', daemonSets.problem), ...unread({ nodes: facts.nodes })];
  if (planned.cni === null) {
    const message = 'without the CNI plugin, a pod is outside the mesh for up to half a second after it starts';
    return [warn(message, 'leave --no-cni out, unless the configuration of CNI must not be written')];
  }
  const multus = daemonSets.items.find(({ metadata }) => /multus/.test(metadata.name));
  return [
    ...unread({ nodes: facts.nodes }),
    ...unreadSettingsOf(facts, ['Cilium']),
    ...(cilium?.['cni-exclusive'] === 'true'
      ? [
          fail(
            'Cilium takes other plugins out of the CNI configuration (cni-exclusive is true)',
            'set cni.exclusive=false in the values of Cilium, or install with --no-cni',
          ),
        ]
      : []),
    ...directoryFindings(facts, planned.cni),
    ...(multus === undefined
      ? []
      : [
          warn(
            `Multus is installed (${multus.metadata.name}): only the first network of a pod is captured, and its own configuration is the first in the chain`,
            'after the installation see whether agents could install the plugin: culvert check',
          ),
        ]),
  ];
}

function unreadSettingsOf({ unreadSettings }: ClusterFacts, plugins: readonly ('Cilium' | 'Calico')[]): Finding[] {
  return unreadSettings
    .filter(({ of }) => plugins.includes(of))
    .map(({ of, problem }) => notRead(`settings of ${of}`, problem));
}

type Directories = { readonly configDirectory: string; readonly binDirectory: string };

/** Distributions that keep CNI elsewhere, and their documented directories. Null: where the usual one is. */
const distributions: readonly {
  readonly name: string;
  readonly isIt: (node: { readonly kubelet: string; readonly labels: Readonly<Record<string, string>> }) => boolean;
  readonly configDirectory: string;
  readonly binDirectory: string;
}[] = [
  {
    name: 'k3s',
    isIt: ({ kubelet }) => kubelet.includes('+k3s'),
    configDirectory: '/var/lib/rancher/k3s/agent/etc/cni/net.d',
    binDirectory: '/var/lib/rancher/k3s/data/cni',
  },
  {
    name: 'MicroK8s',
    isIt: ({ labels }) => labels['microk8s.io/cluster'] === 'true',
    configDirectory: '/var/snap/microk8s/current/args/cni-network',
    binDirectory: '/var/snap/microk8s/current/opt/cni/bin',
  },
  {
    name: 'OpenShift',
    isIt: ({ labels }) => labels['node.openshift.io/os_id'] !== undefined,
    configDirectory: '/etc/kubernetes/cni/net.d',
    binDirectory: '/var/lib/cni/bin',
  },
  {
    name: 'GKE',
    isIt: ({ kubelet }) => kubelet.includes('-gke.'),
    configDirectory: '/etc/cni/net.d',
    binDirectory: '/home/kubernetes/bin',
  },
];

function directoryFindings({ nodes }: ClusterFacts, { configDirectory, binDirectory }: Directories): Finding[] {
  const seen = itemsOf(nodes).map(({ metadata, status }) => ({
    kubelet: status.nodeInfo.kubeletVersion,
    labels: metadata.labels ?? {},
  }));
  return distributions
    .filter(({ isIt }) => seen.some(isIt))
    .filter((known) => known.configDirectory !== configDirectory || known.binDirectory !== binDirectory)
    .map((known) =>
      warn(
        `nodes of ${known.name} have CNI in other directories than ${configDirectory} and ${binDirectory}`,
        `install with --cni-config-dir ${known.configDirectory} --cni-bin-dir ${known.binDirectory}`,
      ),
    );
}

export function serviceText({ daemonSets }: ClusterFacts): string {
  const proxy = itemsOf(daemonSets).find(({ metadata }) => metadata.name === 'kube-proxy');
  const what = proxy === undefined ? 'no kube-proxy is seen' : 'kube-proxy carries Services';
  return `${what}; nothing resolves Services before the mesh sees the connection`;
}

/** What resolves the address of a Service inside connect(2), before a rule of the pod sees it. */
export function serviceFindings(facts: ClusterFacts): Finding[] {
  const effect =
    'the mesh sees pods in place of Services: connections are encrypted and ruled, and which endpoint they get is not its choice';
  const findings: Finding[] = [
    ...unread({ DaemonSets: facts.daemonSets }),
    ...unreadSettingsOf(facts, ['Cilium', 'Calico']),
  ];
  if (facts.cilium !== null && resolvesInSockets(facts.cilium)) {
    const message = `Cilium resolves Services in the sockets of pods (bpf-lb-sock-hostns-only is not true): ${effect}`;
    findings.push(warn(message, 'set socketLB.hostNamespaceOnly=true in the values of Cilium'));
  }
  const calico = calicoProblem(facts);
  if (calico !== null) {
    const message = `Calico ${calico}: ${effect}`;
    findings.push(warn(message, 'set bpfConnectTimeLoadBalancing to Disabled in the FelixConfiguration "default"'));
  }
  return findings;
}

function resolvesInSockets(settings: Readonly<Record<string, string>>): boolean {
  const replacement = settings['kube-proxy-replacement'] ?? 'false';
  const isOn = ['true', 'strict', 'partial'].includes(replacement) || settings['bpf-lb-sock'] === 'true';
  return isOn && settings['bpf-lb-sock-hostns-only'] !== 'true';
}

function calicoProblem({ daemonSets, felix, calicoDataplane }: ClusterFacts): string | null {
  const node = itemsOf(daemonSets).find(({ metadata }) => metadata.name === 'calico-node');
  const isBpf =
    felix?.['bpfEnabled'] === true || calicoDataplane === 'BPF' || environmentOf(node, 'FELIX_BPFENABLED') === 'true';
  if (!isBpf) return null;
  const balancing = felix?.['bpfConnectTimeLoadBalancing'];
  const isOff = balancing === 'Disabled' || felix?.['bpfConnectTimeLoadBalancingEnabled'] === false;
  return isOff ? null : 'has its eBPF data plane, which resolves Services when a pod connects';
}

function environmentOf(program: DaemonSetObject | undefined, name: string): string | null {
  const containers = program?.spec.template.spec.containers ?? [];
  const found = containers.flatMap(({ env = [] }) => env).find((variable) => variable.name === name);
  return found?.value?.toLowerCase() ?? null;
}
