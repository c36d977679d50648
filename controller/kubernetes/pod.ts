import { z } from 'zod';
import { parseIp, type IpAddress } from '../../shared/address.js';

const port = z.object({
  name: z.string().optional(),
  containerPort: z.int(),
  protocol: z.string().default('TCP'),
});
const container = z.object({ ports: z.array(port).nullish(), restartPolicy: z.string().optional() });
const podSchema = z.object({
  metadata: z.object({
    namespace: z.string().min(1),
    name: z.string().min(1),
    uid: z.string().min(1),
    labels: z.record(z.string(), z.string()).nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
    deletionTimestamp: z.string().nullish(),
  }),
  spec: z.object({
    nodeName: z.string().optional(),
    serviceAccountName: z.string().default('default'),
    hostNetwork: z.boolean().nullish(),
    containers: z.array(container).nullish(),
    initContainers: z.array(container).nullish(),
  }),
  status: z
    .object({
      phase: z.string().default('Pending'),
      podIPs: z.array(z.object({ ip: z.string() })).nullish(),
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).nullish(),
    })
    .nullish(),
});

/** What the mesh has to know of a pod (core/v1). */
export type Pod = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Null: it is not scheduled yet. */
  readonly node: string | null;
  /** Empty until its sandbox is there, and for one with the network of its node. */
  readonly addresses: readonly IpAddress[];
  /** Those of its node, where it has the network of that. */
  readonly hostAddresses: readonly IpAddress[];
  /** Its named TCP ports. */
  readonly ports: Readonly<Record<string, number>>;
  /** Whether it passes its readiness probes, and its gates are open. */
  readonly isReady: boolean;
  /** It was told to end, and serves until it has. */
  readonly isEnding: boolean;
  /** It has the network of its node, so no address of its own. */
  readonly isOnHost: boolean;
  /**
   * Kubelet made it of a file (a static pod). A node may make such a pod in any namespace, so nothing that it says of itself
   * counts. Source: the admission plugin NodeRestriction.
   */
  readonly isMirror: boolean;
  /** The runtime knows it by this UID: of a static pod not the one that the API server gave it. */
  readonly runtimeUid: string;
};

/** Kubelet's own UID of a static pod. A node chooses it for pods of its own only. */
const staticUidAnnotation = 'kubernetes.io/config.hash';
const mirrorAnnotation = 'kubernetes.io/config.mirror';

/**
 * Null for a pod that has finished: its address stays in its status, and another pod may have it by now. Throws where the
 * object is no pod.
 */
export function readPod(object: unknown): Pod | null {
  const { metadata, spec, status } = podSchema.parse(object);
  const { phase = 'Pending', podIPs, conditions } = status ?? {};
  if (phase === 'Succeeded' || phase === 'Failed') return null;
  const isOnHost = spec.hostNetwork === true;
  const ips = (podIPs ?? []).flatMap(({ ip }) => parseIp(ip) ?? []);
  const { namespace, name, uid, labels, annotations, deletionTimestamp } = metadata;
  return {
    namespace,
    name,
    uid,
    serviceAccount: spec.serviceAccountName === '' ? 'default' : spec.serviceAccountName,
    labels: labels ?? {},
    annotations: annotations ?? {},
    node: spec.nodeName ?? null,
    addresses: isOnHost ? [] : ips,
    hostAddresses: isOnHost ? ips : [],
    ports: namedPorts(spec),
    isReady: (conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True'),
    isEnding: deletionTimestamp != null,
    isOnHost,
    isMirror: annotations?.[mirrorAnnotation] !== undefined,
    runtimeUid: annotations?.[mirrorAnnotation] === undefined ? uid : (annotations[staticUidAnnotation] ?? uid),
  };
}

/** Those of containers and of native sidecars. The first of a name counts, as in Kubernetes. */
function namedPorts({ containers, initContainers }: z.output<typeof podSchema>['spec']): Record<string, number> {
  const sidecars = (initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  const named: Record<string, number> = {};
  for (const { ports } of [...(containers ?? []), ...sidecars]) {
    for (const { name, containerPort, protocol } of ports ?? []) {
      if (name !== undefined && protocol === 'TCP' && !Object.hasOwn(named, name)) named[name] = containerPort;
    }
  }
  return named;
}
