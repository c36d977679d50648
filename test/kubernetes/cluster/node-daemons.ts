import path from 'node:path';
import { waitUntil } from '../../lab/wait-until.js';
import { imageName, usualRepository } from '../images/test-images.js';
import { keysOf } from './cluster-keys.js';
import type { ClusterNode } from './cluster-node.js';
import { clusterAddresses, type ClusterPlan, ofFamilies } from './cluster-plan.js';

const podNetworkFile = '/etc/cni/net.d/10-bridge.conflist';

/** Starts containerd on a node with the network that its pods get, and waits until it answers. */
export async function startContainerd(plan: ClusterPlan, node: ClusterNode): Promise<void> {
  // Of a node that boots again it is on its disk, with what was put into the chain.
  const isThere = (await node.run(['sh', '-c', `test -e ${podNetworkFile}`])).code === 0;
  if (!isThere) await node.write(podNetworkFile, JSON.stringify(podNetwork(plan, node)));
  await node.write('/etc/kube/containerd.toml', containerdConfig);
  node.startDaemon('containerd', ['containerd', '-c', '/etc/kube/containerd.toml']);
  const ask = async (): Promise<true | undefined> =>
    (await node.run(['ctr', 'version'])).code === 0 ? true : undefined;
  await waitUntil(`containerd of ${node.name} answers`, ask, 60_000);
}

/** Starts the kubelet and kube-proxy on a node with containerd. `taints`: with which a new node registers. */
export async function startKubelet(
  plan: ClusterPlan,
  node: ClusterNode,
  taints: readonly object[] = [],
): Promise<void> {
  const keys = keysOf(plan);
  const config = { ...kubeletConfig(plan, node), registerWithTaints: taints };
  await node.write('/etc/kube/kubelet.yaml', JSON.stringify(config));
  node.startDaemon('kubelet', [
    'kubelet',
    '--config=/etc/kube/kubelet.yaml',
    `--kubeconfig=${path.join(keys, `${node.name}.kubeconfig`)}`,
    `--hostname-override=${node.name}`,
    `--node-ip=${ofFamilies(plan, node.plan)}`,
    `--node-labels=topology.kubernetes.io/zone=${node.plan.zone}`,
  ]);
  await node.write('/etc/kube/proxy.yaml', JSON.stringify(proxyConfig(plan, node)));
  node.startDaemon('kube-proxy', ['kube-proxy', '--config=/etc/kube/proxy.yaml']);
}

/** The simplest there is: a bridge on each node, and the routes that `makeNodeNetwork` adds. */
function podNetwork(plan: ClusterPlan, { plan: { pods } }: ClusterNode): object {
  const ranges = [[{ subnet: pods.ipv4 }], ...(plan.isDual ? [[{ subnet: pods.ipv6 }]] : [])];
  const routes = [{ dst: '0.0.0.0/0' }, ...(plan.isDual ? [{ dst: '::/0' }] : [])];
  const ipam = { type: 'host-local', ranges, routes };
  return {
    cniVersion: '1.0.0',
    name: 'pods',
    plugins: [
      { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: false, hairpinMode: true, ipam },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

const left = ['aufs', 'btrfs', 'zfs', 'devmapper'].map((name) => `io.containerd.snapshotter.v1.${name}`);
const containerdConfig = `version = 2
disabled_plugins = ${JSON.stringify([...left, 'io.containerd.internal.v1.opt'])}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${imageName('pause', usualRepository)}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`;

function kubeletConfig(plan: ClusterPlan, node: ClusterNode): object {
  const keys = keysOf(plan);
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: node.plan.ipv4,
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${node.cgroup}`,
    // Since 1.35 it refuses the old hierarchies, which some machines still have.
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: path.join(keys, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: path.join(keys, `${node.name}.crt`),
    tlsPrivateKeyFile: path.join(keys, `${node.name}.key`),
    resolvConf: '',
    clusterDNS: [clusterAddresses.dnsService],
    clusterDomain: 'cluster.local',
    // The disk is the machine's, and images cannot be had again.
    evictionHard: { 'memory.available': '50Mi' },
    imageGCHighThresholdPercent: 100,
    nodeStatusUpdateFrequency: '5s',
    syncFrequency: '10s',
  };
}

function proxyConfig(plan: ClusterPlan, node: ClusterNode): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: plan.proxyMode,
    clusterCIDR: ofFamilies(plan, clusterAddresses.pods),
    hostnameOverride: node.name,
    clientConnection: { kubeconfig: path.join(keysOf(plan), 'proxy.kubeconfig') },
    // The limits of connection tracking are the machine's: none is written.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  };
}
