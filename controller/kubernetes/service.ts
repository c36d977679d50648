import { z } from 'zod';
import { parseIp, type IpAddress } from '../../shared/address.js';

const servicePort = z.object({
  port: z.int(),
  targetPort: z.union([z.int(), z.string()]).nullish(),
  protocol: z.string().default('TCP'),
});
const serviceSchema = z.object({
  metadata: z.object({ namespace: z.string().min(1), name: z.string().min(1) }),
  spec: z.object({
    type: z.string().default('ClusterIP'),
    clusterIP: z.string().optional(),
    clusterIPs: z.array(z.string()).nullish(),
    ports: z.array(servicePort).nullish(),
    selector: z.record(z.string(), z.string()).nullish(),
    publishNotReadyAddresses: z.boolean().nullish(),
  }),
});

/** What the mesh has to know of a Service (core/v1) that has an address. */
export type ClusterService = {
  readonly namespace: string;
  readonly name: string;
  /** One of each family at most. */
  readonly clusterIps: readonly IpAddress[];
  /** Its TCP ports. */
  readonly ports: readonly { readonly port: number; readonly targetPort: number | string }[];
  /** Empty: its endpoints are named by hand, in EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>;
  /** Pods count as ready for it from their first moment. */
  readonly takesUnready: boolean;
};

/**
 * Null for a service without an address (headless, or `ExternalName`) and for one without a TCP port: connections to it are not
 * the mesh's to route. Throws where the object is no service.
 */
export function readService(object: unknown): ClusterService | null {
  const { metadata, spec } = serviceSchema.parse(object);
  if (spec.type === 'ExternalName') return null;
  const clusterIps = (spec.clusterIPs ?? [spec.clusterIP ?? '']).flatMap((ip) => parseIp(ip) ?? []);
  const ports = (spec.ports ?? [])
    .filter(({ protocol }) => protocol === 'TCP')
    .map(({ port, targetPort }) => ({ port, targetPort: targetOf(targetPort ?? 0, port) }));
  if (clusterIps.length === 0 || ports.length === 0) return null;
  const { namespace, name } = metadata;
  const takesUnready = spec.publishNotReadyAddresses === true;
  return { namespace, name, clusterIps, ports, selector: spec.selector ?? {}, takesUnready };
}

/** 0 and an empty text mean the port itself; digits in quotes are a number. */
function targetOf(targetPort: number | string, port: number): number | string {
  if (targetPort === 0 || targetPort === '') return port;
  return typeof targetPort === 'string' && /^\d+$/.test(targetPort) ? Number(targetPort) : targetPort;
}
