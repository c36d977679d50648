/**
 * The definition of a lab, also as a YAML file for `npm run lab -- up --topology FILE`. Names are DNS labels. Addresses are
 * assigned in the order of the lists, see `address-plan.ts`.
 */
export type LabTopology = {
  readonly hosts: readonly HostSpec[];
  readonly services?: readonly ServiceSpec[];
  /** A further host called `controller`, without workloads, at 198.18.0.2. */
  readonly hasController?: boolean;
  /** Machines outside the mesh: on the fabric, with routes to every workload. */
  readonly externalHosts?: readonly string[];
  /** MTU of every link in bytes. Default: 1500. */
  readonly mtu?: number;
};

export type HostSpec = { readonly name: string; readonly workloads?: readonly WorkloadSpec[] };

export type WorkloadSpec = {
  readonly name: string;
  /** Namespace in the mesh, not in the kernel. */
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Copied to the Workload resource. */
  readonly ports?: readonly { readonly name: string; readonly port: number; readonly earlyAccept?: boolean }[];
  /** Copied to the Workload resource: traffic that the agent does not capture. */
  readonly capture?: CaptureSpec;
  /** False: registered without a node, so that no agent captures it. Default: true. */
  readonly isMeshed?: boolean;
};

export type CaptureSpec = {
  readonly excludeOutboundPorts?: readonly number[];
  readonly excludeInboundPorts?: readonly number[];
  readonly excludeOutboundCidrs?: readonly string[];
};

export type ServiceSpec = {
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly { readonly port: number; readonly targetPort?: number; readonly earlyAccept?: boolean }[];
  /** Labels of its workloads. */
  readonly selector: Readonly<Record<string, string>>;
};

/** Two hosts and six workloads, for the demo and for `npm run lab -- up` without a file. */
export const defaultTopology: LabTopology = {
  hasController: true,
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } },
        { name: 'api', namespace: 'shop', serviceAccount: 'api', labels: { app: 'api' } },
        { name: 'intruder', namespace: 'guest', serviceAccount: 'default', labels: { app: 'intruder' } },
      ],
    },
    {
      name: 'node2',
      workloads: [
        { name: 'cache', namespace: 'shop', serviceAccount: 'cache', labels: { app: 'cache' } },
        { name: 'site', namespace: 'shop', serviceAccount: 'site', labels: { app: 'site' } },
        { name: 'bastion', namespace: 'ops', serviceAccount: 'bastion', labels: { app: 'bastion' } },
      ],
    },
  ],
  services: [
    { name: 'redis', namespace: 'shop', ports: [{ port: 6379 }], selector: { app: 'cache' } },
    { name: 'www', namespace: 'shop', ports: [{ port: 80 }], selector: { app: 'site' } },
  ],
};
