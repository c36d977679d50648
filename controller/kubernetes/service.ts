import { z } from 'zod';
import { parseIp, type IpAddress } from '../../shared/address.js';
import type { RegistryService } from '../../shared/routing/registry-entry.js';

const servicePort = z.object({
  name: z.string().nullish(),
  port: z.int(),
  targetPort: z.union([z.int(), z.string()]).nullish(),
  protocol: z.string().default('TCP'),
});
const serviceSchema = z.object({
  metadata: z.object({ namespace: z.string().min(1), name: z.string().min(1), uid: z.string().default('') }),
  spec: z.object({
    type: z.string().default('ClusterIP'),
    clusterIP: z.string().optional(),
    clusterIPs: z.array(z.string()).nullish(),
    ports: z.array(servicePort).nullish(),
    selector: z.record(z.string(), z.string()).nullish(),
    publishNotReadyAddresses: z.boolean().nullish(),
    internalTrafficPolicy: z.string().nullish(),
    trafficDistribution: z.string().nullish(),
    sessionAffinity: z.string().nullish(),
  }),
});

/** What the mesh has to know of a Service (core/v1) that has an address. */
export type ClusterService = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /**
   * Its own addresses, one of each family at most. Not its `externalIPs`: any author of a service chooses those, also the
   * address of another service or of a node (CVE-2020-8554), and here the mesh would prove the wrong service to its clients.
   */
  readonly vips: readonly IpAddress[];
  /** Its TCP ports. The name is empty where it has only one. */
  readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: number | string }[];
  /** Empty: its endpoints are named by hand, in EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>;
  /** Pods count as ready for it from their first moment. */
  readonly takesUnready: boolean;
  readonly distribution: RegistryService['distribution'];
  readonly isSticky: boolean;
};

/**
 * Null for a service without an address (headless, or `ExternalName`) and for one without a TCP port: connections to it are not
 * the mesh's to route. Throws where the object is no service.
 */
export function readService(object: unknown): ClusterService | null {
  const { metadata, spec } = serviceSchema.parse(object);
  if (spec.type === 'ExternalName') return null;
  const vips = (spec.clusterIPs ?? [spec.clusterIP ?? '']).flatMap((ip) => parseIp(ip) ?? []);
  const ports = (spec.ports ?? [])
    .filter(({ protocol }) => protocol === 'TCP')
    .map(({ name, port, targetPort }) => ({ name: name ?? '', port, targetPort: targetOf(targetPort ?? 0, port) }));
  if (vips.length === 0 || ports.length === 0) return null;
  const { namespace, name, uid } = metadata;
  return {
    namespace,
    name,
    uid,
    vips,
    ports,
    selector: spec.selector ?? {},
    takesUnready: spec.publishNotReadyAddresses === true,
    distribution: distributionOf(spec),
    isSticky: spec.sessionAffinity === 'ClientIP',
  };
}

/** 0 and an empty text mean the port itself; digits in quotes are a number. */
function targetOf(targetPort: number | string, port: number): number | string {
  if (targetPort === 0 || targetPort === '') return port;
  return typeof targetPort === 'string' && /^\d+$/.test(targetPort) ? Number(targetPort) : targetPort;
}

/** A preference of a later version of Kubernetes counts as none. */
function distributionOf({
  internalTrafficPolicy,
  trafficDistribution,
}: z.output<typeof serviceSchema>['spec']): ClusterService['distribution'] {
  if (internalTrafficPolicy === 'Local') return 'same-host';
  switch (trafficDistribution) {
    case 'PreferSameNode':
      return 'prefer-same-host';
    // The older name of the same.
    case 'PreferClose':
    case 'PreferSameZone':
      return 'prefer-same-zone';
    default:
      return undefined;
  }
}
