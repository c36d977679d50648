import { z } from 'zod';
import { parseIp, type IpAddress } from '../../shared/address.js';
import type { WorkloadEntry } from '../../shared/routing/registry-entry.js';

const serviceLabel = 'kubernetes.io/service-name';
const managerLabel = 'endpointslice.kubernetes.io/managed-by';

/** Slices of services with a selector, which Kubernetes makes of pods: we do the same with the pods that we know. */
export const namedSlices = `${managerLabel}!=endpointslice-controller.k8s.io`;

const endpointSchema = z.object({
  addresses: z.array(z.string()).nullish(),
  nodeName: z.string().nullish(),
  conditions: z
    .object({
      ready: z.boolean().nullish(),
      serving: z.boolean().nullish(),
      terminating: z.boolean().nullish(),
    })
    .nullish(),
});
const sliceSchema = z.object({
  metadata: z.object({ namespace: z.string().min(1), labels: z.record(z.string(), z.string()).nullish() }),
  addressType: z.string(),
  endpoints: z.array(endpointSchema).nullish(),
  ports: z
    .array(z.object({ name: z.string().nullish(), port: z.int().nullish(), protocol: z.string().nullish() }))
    .nullish(),
});

/** What the mesh has to know of an EndpointSlice (discovery.k8s.io/v1). */
export type EndpointSlice = {
  readonly namespace: string;
  readonly service: string;
  readonly endpoints: readonly SliceEndpoint[];
  /** Of the TCP ports, by the name of the service's port; the only port may have the empty name. */
  readonly ports: Readonly<Record<string, number>>;
};

export type SliceEndpoint = {
  readonly address: IpAddress;
  readonly node: string | null;
  readonly availability: WorkloadEntry['availability'];
};

/** Null for a slice of no service, and for one of names instead of addresses. Throws where the object is no slice. */
export function readEndpointSlice(object: unknown): EndpointSlice | null {
  const { metadata, addressType, endpoints, ports } = sliceSchema.parse(object);
  const service = metadata.labels?.[serviceLabel] ?? '';
  if (service === '' || (addressType !== 'IPv4' && addressType !== 'IPv6')) return null;
  const named: Record<string, number> = {};
  for (const { name, port, protocol } of ports ?? []) {
    if ((protocol ?? 'TCP') === 'TCP' && port != null) named[name ?? ''] = port;
  }
  return {
    namespace: metadata.namespace,
    service,
    // All addresses of an endpoint lead to one thing; the first stands for it, as in kube-proxy.
    endpoints: (endpoints ?? []).flatMap((endpoint) => {
      const address = parseIp(endpoint.addresses?.[0] ?? '');
      if (address === undefined) return [];
      return { address, node: endpoint.nodeName ?? null, availability: availabilityOf(endpoint.conditions ?? {}) };
    }),
    ports: named,
  };
}

/** What is not said counts as ready, and serving follows it. Source: the type EndpointConditions of the API. */
function availabilityOf({
  ready,
  serving,
  terminating,
}: NonNullable<z.output<typeof endpointSchema>['conditions']>): SliceEndpoint['availability'] {
  if (ready ?? true) return undefined;
  return serving === true && terminating === true ? 'ending' : 'unready';
}
