import { serviceHost } from '../../../shared/routing/service-hosts.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import { hostOf } from '../compile-destination-rules.js';
import { invalidBackend } from '../compile-tcp-routes.js';

/**
 * Refuses a TCPRoute for a service that a VirtualService of the same namespace is for, or that it names twice, and warns of
 * backends whose share of connections is refused, as far as documents show it.
 */
export function checkTcpRoutes(resources: readonly Resource[], problems: ProblemList): void {
  const routes = resources.filter((resource) => resource.kind === 'TCPRoute');
  if (routes.length === 0) return;
  const grants = resources.filter((resource) => resource.kind === 'ReferenceGrant');
  const steered = new Map(
    resources
      .filter((resource) => resource.kind === 'VirtualService')
      .map((each) => {
        const { namespace } = each.metadata;
        return [`${namespace} ${hostOf(each.spec.hosts[0] ?? '', namespace)}`, each] as const;
      }),
  );
  for (const resource of routes) {
    const { namespace: own } = resource.metadata;
    const parents = resource.spec.parentRefs.map(
      ({ namespace = own, name, port = '' }) => `${namespace}/${name}:${port}`,
    );
    for (const [index, { namespace = own, name }] of resource.spec.parentRefs.entries()) {
      const first = parents.indexOf(parents[index] ?? '');
      if (first !== index) {
        const message = `is the Service ${namespace}/${name} again, as spec.parentRefs[${first}]: ${own} is the namespace of the route`;
        problems.error({ resource, path: ['spec', 'parentRefs', index] }, message, 'delete one of them');
        continue;
      }
      const host = serviceHost({ namespace, name });
      const other = steered.get(`${own} ${host}`);
      if (other === undefined) continue;
      const message = `${formatResourceId(resourceId(other))} is for ${host} already, in the same namespace`;
      problems.error({ resource, path: ['spec', 'parentRefs', index] }, message, 'keep one of them');
    }
    const backends = resource.spec.rules[0]?.backendRefs ?? [];
    for (const [index, ref] of backends.entries()) {
      const invalid = invalidBackend(own, ref, grants);
      if (invalid === null) continue;
      const path = ['spec', 'rules', 0, 'backendRefs', index];
      problems.warn({ resource, path }, invalid, 'its share of the connections is refused');
    }
    if (backends.every(({ weight = 1 }) => weight === 0)) {
      const path = ['spec', 'rules', 0, 'backendRefs'];
      problems.warn({ resource, path }, 'has no weight above 0', 'all connections are refused');
    }
  }
}
