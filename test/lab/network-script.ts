import type { LabPlan, PlannedHost, PlannedWorkload } from './address-plan.js';

/**
 * The commands that create the network of a plan, as pure text. Each namespace first gets its sysctls, since interfaces
 * take IPv6 defaults when they are created, then one `ip -batch` script. The order is fabric, machines, workloads, because
 * each script creates the links to the next level with their far ends already in place.
 *
 * Routing is like that of a host-gateway CNI: hosts have static routes to each other's workload prefixes. A workload has a
 * /32 and a /128, and its gateway is its host, always at 169.254.1.1 and fe80::1.
 */
export type NamespaceScript = {
  readonly netns: string;
  /** Path below /proc/sys/net → value. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Lines for `ip -batch`. */
  readonly ipCommands: readonly string[];
};

export type NetworkScript = {
  readonly fabric: NamespaceScript;
  readonly machines: readonly NamespaceScript[];
  readonly workloads: readonly NamespaceScript[];
};

const gatewayV4 = '169.254.1.1';
const gatewayV6 = 'fe80::1';

/**
 * Makes addresses usable at once: by default, duplicate address detection keeps an IPv6 address tentative for a second.
 * Loose reverse-path filtering is the default of Debian 12 with systemd.
 */
const everywhere = {
  'ipv6/conf/all/accept_dad': '0',
  'ipv6/conf/default/accept_dad': '0',
  'ipv6/conf/default/accept_ra': '0',
  'ipv4/conf/all/rp_filter': '2',
  'ipv4/conf/default/rp_filter': '2',
};
const forwarding = { ...everywhere, 'ipv4/ip_forward': '1', 'ipv6/conf/all/forwarding': '1' };

export function renderNetwork(plan: LabPlan): NetworkScript {
  return {
    fabric: renderFabric(plan),
    machines: plan.machines.map((machine) => renderMachine(plan, machine)),
    workloads: plan.workloads.map(renderWorkload),
  };
}

function renderFabric(plan: LabPlan): NamespaceScript {
  const { fabric, mtu } = plan;
  const links = plan.machines.flatMap((machine) => [
    `link add ${machine.fabricLink} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${machine.netns}`,
    `link set ${machine.fabricLink} master br0 up`,
  ]);
  return {
    netns: fabric.netns,
    sysctls: everywhere,
    ipCommands: [
      'link set lo up',
      // Without an MLD querier a snooping bridge may drop neighbour solicitations.
      `link add br0 mtu ${mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      ...links,
      `addr add ${fabric.ipv4}/24 dev br0`,
      `addr add ${fabric.ipv6}/64 dev br0 nodad`,
      'link set br0 up',
    ],
  };
}

function renderMachine(plan: LabPlan, machine: PlannedHost): NamespaceScript {
  const others = plan.machines.filter((other) => other !== machine);
  return {
    netns: machine.netns,
    sysctls: machine.podCidrs === null ? everywhere : forwarding,
    ipCommands: [
      'link set lo up',
      `addr add ${machine.ipv4}/24 dev eth0`,
      `addr add ${machine.ipv6}/64 dev eth0 nodad`,
      'link set eth0 up',
      ...(machine.podCidrs === null ? [] : [`addr add ${gatewayV4}/32 dev lo scope link`]),
      ...others.flatMap(routesVia),
      ...plan.workloads
        .filter((workload) => machine.role === 'host' && workload.host === machine.name)
        .flatMap((workload) => workloadLink(plan, machine, workload)),
    ],
  };
}

function routesVia(other: PlannedHost): string[] {
  if (other.podCidrs === null) return [];
  return [`route add ${other.podCidrs.v4} via ${other.ipv4}`, `route add ${other.podCidrs.v6} via ${other.ipv6}`];
}

/** `src` gives the host's own connections, such as health probes, the address of the host. */
function workloadLink(plan: LabPlan, host: PlannedHost, workload: PlannedWorkload): string[] {
  const { hostLink } = workload;
  return [
    `link add ${hostLink} mtu ${plan.mtu} type veth peer name eth0 mtu ${plan.mtu} netns ${workload.netns}`,
    `link set ${hostLink} up`,
    `addr add ${gatewayV6}/64 dev ${hostLink} nodad`,
    `route add ${workload.ipv4}/32 dev ${hostLink} src ${host.ipv4}`,
    `route add ${workload.ipv6}/128 dev ${hostLink} src ${host.ipv6}`,
  ];
}

function renderWorkload(workload: PlannedWorkload): NamespaceScript {
  return {
    netns: workload.netns,
    sysctls: everywhere,
    ipCommands: [
      'link set lo up',
      'link set eth0 up',
      `addr add ${workload.ipv4}/32 dev eth0`,
      `addr add ${workload.ipv6}/128 dev eth0 nodad`,
      `route add ${gatewayV4}/32 dev eth0 scope link`,
      `route add default via ${gatewayV4} dev eth0`,
      `route add default via ${gatewayV6} dev eth0`,
    ],
  };
}
