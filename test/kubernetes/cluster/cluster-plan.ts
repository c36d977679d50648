import type { ClusterPrograms } from '../programs/build-programs.js';

/** A node, which is a machine of its own to Kubernetes. */
export type NodePlan = {
  readonly name: 'n1' | 'n2';
  readonly ipv4: string;
  readonly ipv6: string;
  /** Address of its network card. Others remember it, so it is the same when the node boots again. */
  readonly mac: string;
  /** From which its pods get their addresses. */
  readonly pods: { readonly ipv4: string; readonly ipv6: string };
  /** Label topology.kubernetes.io/zone. */
  readonly zone: string;
};

export type ProxyMode = 'nftables' | 'iptables';

/** All that is to know of a cluster of our own; plain data, which the processes of the tests get in a file. */
export type ClusterPlan = {
  /** Of the lab: first part of the names of its namespaces and cgroups. */
  readonly prefix: string;
  /** Everything of the cluster that is on disk. */
  readonly directory: string;
  /** A link for each declared program; the nodes have no other programs of the machine in their PATH. */
  readonly declaredDirectory: string;
  readonly programs: ClusterPrograms;
  readonly proxyMode: ProxyMode;
  readonly isDual: boolean;
  readonly nodes: readonly NodePlan[];
};

/** The control plane runs on the first. */
export const nodePlans: readonly [NodePlan, NodePlan] = [nodePlan('n1', 1), nodePlan('n2', 2)];

function nodePlan(name: NodePlan['name'], number: number): NodePlan {
  return {
    name,
    ipv4: `10.240.0.1${number}`,
    ipv6: `fd40::1${number}`,
    mac: `02:00:00:00:00:1${number}`,
    pods: { ipv4: `10.241.${number}.0/24`, ipv6: `fd41:0:0:${number}::/64` },
    zone: `z${number}`,
  };
}

/** Addresses of the cluster as a whole. */
export const clusterAddresses = {
  /** A router that does not exist: kube-proxy wants a default route, and traffic to the outside has to end somewhere. */
  router: { ipv4: '10.240.0.1', ipv6: 'fd40::1' },
  pods: { ipv4: '10.241.0.0/16', ipv6: 'fd41::/48' },
  services: { ipv4: '10.96.0.0/16', ipv6: 'fd96::/112' },
  apiService: '10.96.0.1',
  dnsService: '10.96.0.10',
} as const;

/** A list for an option that takes one value for each family. */
export function ofFamilies({ isDual }: Pick<ClusterPlan, 'isDual'>, each: { ipv4: string; ipv6: string }): string {
  return isDual ? `${each.ipv4},${each.ipv6}` : each.ipv4;
}
