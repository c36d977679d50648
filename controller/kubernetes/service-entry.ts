import type { RegistryService } from '../../shared/routing/registry-entry.js';
import type { ClusterService } from './service.js';

/**
 * A service as the registry has it: its endpoints are the pods that it selects, each ready or not by itself. Null for one
 * without a selector: kube-proxy carries what is sent there, and the rules see an address outside the mesh.
 */
export function serviceEntry(service: ClusterService): RegistryService | null {
  const { namespace, name, clusterIps, ports, selector, takesUnready } = service;
  if (Object.keys(selector).length === 0) return null;
  return {
    kind: 'service',
    namespace,
    name,
    vips: clusterIps,
    ports,
    selector,
    ...(takesUnready ? { takesUnready: true } : {}),
  };
}
