import { formatSpiffeId, parseSpiffeId } from '../../shared/identity.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Service } from '../resources/kinds/service.js';
import { lateAcceptPortsOf, namedPortsOf, type Workload } from '../resources/kinds/workload.js';
import {
  registryKey,
  type RegistryEntry,
  type RegistryService,
  type WorkloadEntry,
} from '../../shared/routing/registry-entry.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * The registry entries of workloads and services, sorted by registry key. The only possible problem is a trust domain or a
 * name that does not give a valid SPIFFE ID.
 */
export function registryEntries(
  resources: readonly Resource[],
  trustDomain: string,
  locations: ReadonlyMap<string, ResourceLocation> = new Map(),
): { readonly entries: readonly RegistryEntry[] } | { readonly problems: readonly Problem[] } {
  const problems = new ProblemList({ locations });
  const entries: RegistryEntry[] = [];
  for (const resource of resources) {
    if (resource.kind === 'Service') entries.push(registryService(resource));
    if (resource.kind !== 'Workload') continue;
    const entry = workloadEntry(resource, trustDomain);
    entries.push(entry);
    if (parseSpiffeId(entry.identity) !== undefined) continue;
    const message = `its identity ${entry.identity} is not a valid SPIFFE ID`;
    problems.error({ resource, path: ['spec', 'serviceAccount'] }, message, 'check the trust domain and the names');
  }
  if (problems.errors.length > 0) return { problems: problems.errors };
  return { entries: entries.sort((a, b) => (registryKey(a) < registryKey(b) ? -1 : 1)) };
}

function workloadEntry({ metadata, spec }: Workload, trustDomain: string): WorkloadEntry {
  const { namespace, name } = metadata;
  const { serviceAccount, addresses, node = null, netns = null, capture, zone } = spec;
  return {
    kind: 'workload',
    namespace,
    name,
    serviceAccount,
    identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }),
    labels: metadata.labels ?? {},
    addresses,
    // The document's schema has checked it.
    node: node as NodeName | null,
    netns,
    protocol: node === null || netns === null ? 'tcp' : 'hbone',
    capture: {
      excludeOutboundPorts: capture?.excludeOutboundPorts ?? [],
      excludeInboundPorts: capture?.excludeInboundPorts ?? [],
      excludeOutboundCidrs: capture?.excludeOutboundCidrs ?? [],
    },
    ...namedPortsOf(spec),
    ...lateAcceptPortsOf(spec),
    ...(zone === undefined || node === null ? {} : { locality: { host: node, zone } }),
  };
}

const distributions = {
  PreferSameZone: 'prefer-same-zone',
  PreferSameNode: 'prefer-same-host',
} as const satisfies Record<string, RegistryService['distribution']>;

function registryService({ metadata, spec }: Service): RegistryService {
  return {
    kind: 'service',
    namespace: metadata.namespace,
    name: metadata.name,
    vips: spec.vips,
    ports: spec.ports.map(({ port, targetPort = port, earlyAccept = true }) => ({
      port,
      targetPort,
      ...(earlyAccept ? {} : { earlyAccept }),
    })),
    selector: spec.selector,
    ...(spec.trafficDistribution === undefined ? {} : { distribution: distributions[spec.trafficDistribution] }),
  };
}
