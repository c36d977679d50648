/**
 * What a lab is made of, as a person writes it (also as a YAML file, for `npm run lab -- up --topology FILE`). Names
 * are DNS labels. Addresses are given out in the order of the lists, see `address-plan.ts`.
 */
export type LabTopology = {
  readonly hosts: readonly HostSpec[];
  readonly services?: readonly ServiceSpec[];
  /** A further host called `controller`, without workloads, at 198.18.0.2. */
  readonly hasController?: boolean;
  /** Machines that know nothing of the mesh: on the fabric, with routes to every workload. */
  readonly externalHosts?: readonly string[];
  /** Of every link, in bytes; 1500 unless told. */
  readonly mtu?: number;
};

export type HostSpec = { readonly name: string; readonly workloads?: readonly WorkloadSpec[] };

export type WorkloadSpec = {
  readonly name: string;
  /** Of the mesh, not of the kernel. */
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Written into the Workload resource as it is: traffic that the agent leaves alone. */
  readonly capture?: CaptureSpec;
  /** False: registered without a node, so that no agent captures it. True unless told. */
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
  readonly ports: readonly { readonly port: number; readonly targetPort?: number }[];
  /** Labels of the workloads behind it. */
  readonly selector: Readonly<Record<string, string>>;
};

/** Two hosts and six workloads: what the demo, and `npm run lab -- up` without a file, build. */
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
