import { formatSpiffeId } from '../../../shared/identity.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { ip, trustDomain } from './policy-fixture.js';
import { nodeNamed } from '../routing/names.js';

/** Registry entries for the tests of the analyses. The service account and the label `app` are the name by default. */
export function workloadEntry(
  fullName: string,
  addresses: readonly string[],
  init: Partial<Pick<WorkloadEntry, 'serviceAccount' | 'labels' | 'node' | 'ports'>> = {},
): WorkloadEntry {
  const [namespace = '', name = ''] = fullName.split('/');
  const { serviceAccount = name, labels = { app: name }, node = nodeNamed('host-a'), ports } = init;
  return {
    kind: 'workload',
    namespace,
    name,
    serviceAccount,
    identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }),
    labels,
    addresses: addresses.map(ip),
    node,
    netns: node === null ? null : name,
    protocol: node === null ? 'tcp' : 'hbone',
    capture: { excludeOutboundPorts: [], excludeInboundPorts: [], excludeOutboundCidrs: [] },
    ...(ports === undefined ? {} : { ports }),
  };
}

export function registryService(
  fullName: string,
  { vips, ...init }: Pick<RegistryService, 'ports' | 'selector'> & { readonly vips: readonly string[] },
): RegistryService {
  const [namespace = '', name = ''] = fullName.split('/');
  return { kind: 'service', namespace, name, vips: vips.map(ip), ...init };
}
