import { existsSync } from 'node:fs';
import { CulvertError } from '../../../shared/errors.js';
import { requireSuccess } from '../../lab/command.js';
import { clusterAddresses, type ClusterPlan, type NodePlan } from './cluster-plan.js';

/** The namespace with the bridge that connects the nodes. Nothing of it is in the machine's own namespace. */
export function fabricOf({ prefix }: Pick<ClusterPlan, 'prefix'>): string {
  return `${prefix}-fabric`;
}

export function netnsOf({ prefix }: Pick<ClusterPlan, 'prefix'>, { name }: Pick<NodePlan, 'name'>): string {
  return `${prefix}-${name}`;
}

export async function makeFabric(plan: ClusterPlan): Promise<void> {
  const fabric = fabricOf(plan);
  await ip([`netns add ${fabric}`]);
  await ip(['link set lo up', 'link add br0 type bridge', 'link set br0 up'], fabric);
}

/** Makes the network namespace of a node and connects it; routes lead to the pods of the others. Throws `KERNEL_SETTING`. */
export async function makeNodeNetwork(plan: ClusterPlan, node: NodePlan): Promise<void> {
  const fabric = fabricOf(plan);
  const netns = netnsOf(plan, node);
  await ip([`netns add ${netns}`]);
  await ip(
    [`link add ${node.name} type veth peer name eth0 netns ${netns}`, `link set ${node.name} master br0 up`],
    fabric,
  );
  const { router } = clusterAddresses;
  const others = plan.nodes.filter(({ name }) => name !== node.name);
  const forIpv6 = [
    `addr add ${node.ipv6}/64 dev eth0 nodad`,
    `route add default via ${router.ipv6} dev eth0 onlink`,
    ...others.map(({ pods, ipv6 }) => `route add ${pods.ipv6} via ${ipv6}`),
  ];
  await ip(
    [
      'link set lo up',
      `link set eth0 address ${node.mac}`,
      `addr add ${node.ipv4}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${router.ipv4} dev eth0 onlink`,
      ...others.map(({ pods, ipv4 }) => `route add ${pods.ipv4} via ${ipv4}`),
      ...(plan.isDual ? forIpv6 : []),
    ],
    netns,
  );
  await set(plan, netns);
}

/** Takes the network of a node away, after its processes. */
export async function removeNodeNetwork(plan: ClusterPlan, node: NodePlan): Promise<void> {
  await ip([`link del ${node.name}`], fabricOf(plan));
  await ip([`netns del ${netnsOf(plan, node)}`]);
}

/** Of the namespace alone. */
async function set(plan: ClusterPlan, netns: string): Promise<void> {
  if (!existsSync('/proc/sys/net/bridge')) {
    const message = 'The kernel does not show bridged packets to iptables, which kube-proxy relies on.';
    throw new CulvertError({ code: 'KERNEL_SETTING', message, hint: 'modprobe br_netfilter' });
  }
  const four = ['net.ipv4.ip_forward', 'net.bridge.bridge-nf-call-iptables'];
  const six = ['net.ipv6.conf.all.forwarding', 'net.bridge.bridge-nf-call-ip6tables'];
  const settings = [...four, ...(plan.isDual ? six : [])].map((name) => `${name}=1`);
  await requireSuccess(['nsenter', `--net=/run/netns/${netns}`, 'sysctl', '-qw', ...settings]);
}

async function ip(lines: readonly string[], netns?: string): Promise<void> {
  const where = netns === undefined ? [] : ['-n', netns];
  await requireSuccess(['ip', ...where, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
