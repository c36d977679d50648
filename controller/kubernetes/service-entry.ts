import type { NamedEndpoint, RegistryService } from '../../shared/routing/registry-entry.js';
import type { ClusterService } from './service.js';

/** A service as the registry has it: its endpoints are the pods that it selects, each ready or not by itself, and `endpoints`. */
export function serviceEntry(service: ClusterService, endpoints: readonly NamedEndpoint[]): RegistryService {
  const { namespace, name, vips, ports, selector, takesUnready, distribution, isSticky } = service;
  return {
    kind: 'service',
    namespace,
    name,
    vips,
    ports: ports.map(({ port, targetPort }) => ({ port, targetPort })),
    selector,
    ...(endpoints.length === 0 ? {} : { endpoints }),
    ...(takesUnready ? { takesUnready: true } : {}),
    ...(distribution === undefined ? {} : { distribution }),
    ...(isSticky ? { isSticky: true } : {}),
  };
}
