import type { IpAddress } from '../address.js';
import type { SpiffeId } from '../identity.js';
import type { NodeName } from './names.js';

/**
 * What the controller publishes in the bucket `culvert_registry`, one key per workload and service, and what agents
 * route and select by. Keys: `workload.<namespace>.<name>` and `service.<namespace>.<name>`.
 */
export type RegistryEntry = WorkloadEntry | RegistryService;

/**
 * What an entry may require its readers to know. A field that is added later is passed over by agents that do not know it; where
 * that would let a connection go where it must not, its feature is added here, and entries that have the field name it.
 * Agents without it then keep the entry as it was and refuse what is new of it.
 */
const entryFeatures = [] as const satisfies readonly string[];
export type EntryFeature = (typeof entryFeatures)[number];

export function isEntryFeature(name: unknown): name is EntryFeature {
  return (entryFeatures as readonly unknown[]).includes(name);
}

export type WorkloadEntry = {
  readonly kind: 'workload';
  /** Absent: nothing. */
  readonly requires?: readonly EntryFeature[];
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly identity: SpiffeId;
  readonly labels: Readonly<Record<string, string>>;
  /** Every address of the workload, IPv4 and IPv6; no two workloads share one. */
  readonly addresses: readonly IpAddress[];
  /** The host that it runs on; null when no agent manages it. */
  readonly node: NodeName | null;
  /**
   * Its network namespace on `node`: a name under /run/netns, an absolute path, or {@link podNetns} of a pod, whose sandbox
   * the agent finds. Null: not captured.
   */
  readonly netns: string | null;
  /** `hbone`: reached only through a tunnel. `tcp`: no agent captures it, so it is dialled directly. */
  readonly protocol: 'hbone' | 'tcp';
  readonly capture: CaptureExclusions;
  /** The named ports; absent: none. */
  readonly ports?: Readonly<Record<string, number>>;
  /** Ports with `earlyAccept: false`, in ascending order; absent: none. */
  readonly lateAcceptPorts?: readonly number[];
  /**
   * Whether services send connections to it. `unready`: none does, except with `takesUnready`. `ending`: it was told to end
   * and still serves, so a service uses it where it has no ready endpoint, as in Kubernetes. Absent: it is ready.
   */
  readonly availability?: 'unready' | 'ending';
  /** Absent: it is on `node`, in no zone; see `localityOf`. */
  readonly locality?: Locality;
};

/** Where something runs. A host without a zone is in none. */
export type Locality = { readonly host: string; readonly zone?: string };

/** Traffic of a workload that the agent does not capture. */
export type CaptureExclusions = {
  readonly excludeOutboundPorts: readonly number[];
  readonly excludeInboundPorts: readonly number[];
  /** CIDR texts, of destinations. */
  readonly excludeOutboundCidrs: readonly string[];
};

/**
 * A service of the mesh. Not to be confused with the kind ServiceEntry, which names networks outside the mesh and is
 * compiled into the snapshot (`CompiledExternal`).
 */
export type RegistryService = {
  readonly kind: 'service';
  /** Absent: nothing. */
  readonly requires?: readonly EntryFeature[];
  readonly namespace: string;
  readonly name: string;
  readonly vips: readonly IpAddress[];
  readonly ports: readonly ServicePort[];
  /** The endpoints are the workloads of the same namespace that have all these labels. */
  readonly selector: Readonly<Record<string, string>>;
  /** Endpoints that no selector finds, as they are outside the mesh or were named by hand. Absent: there are none. */
  readonly endpoints?: readonly NamedEndpoint[];
  /** Workloads are endpoints before they are ready, and while they end. Absent: they are not. */
  readonly takesUnready?: true;
  /**
   * Which endpoints a client gets. `same-host`: those of its own host and no others. The other two: the nearest that there
   * are. Absent: all.
   */
  readonly distribution?: 'same-host' | 'prefer-same-host' | 'prefer-same-zone';
  /** All connections from one address go to one endpoint for as long as it is one. Absent: they do not. */
  readonly isSticky?: true;
};

/** An endpoint by its address. Where the address is that of a workload, the workload is the endpoint. */
export type NamedEndpoint = {
  readonly address: IpAddress;
  /** By the port of the service, as text; a port that is not there is not served. */
  readonly ports: Readonly<Record<string, number>>;
  readonly availability?: WorkloadEntry['availability'];
  readonly locality?: Locality;
};

export type ServicePort = {
  readonly port: number;
  /** A number, or the name of a port, which each endpoint gives to a number of its own. */
  readonly targetPort: number | string;
  /** Absent: accepted early. */
  readonly earlyAccept?: false;
};

const podPrefix = 'pod:';

/** The network namespace of a pod's sandbox, as `netns` of an entry has it. No file under /run/netns has such a name in it. */
export function podNetns(uid: string): string {
  return podPrefix + uid;
}

/** The UID of {@link podNetns}; null: `netns` names a namespace in another way. */
export function podOfNetns(netns: string): string | null {
  return netns.startsWith(podPrefix) ? netns.slice(podPrefix.length) : null;
}

export function registryKey(entry: RegistryEntry): string {
  return `${entry.kind}.${entry.namespace}.${entry.name}`;
}
