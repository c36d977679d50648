import { defaultMesh } from '../../resources/kinds/mesh.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { VirtualService } from '../../resources/kinds/virtual-service.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import { DocumentsByHost } from '../../../shared/routing/documents-by-host.js';
import { serviceOfHost } from '../../../shared/routing/service-hosts.js';
import { compileDestinationRules, hostOf } from '../compile-destination-rules.js';

/**
 * Refuses a second VirtualService of a namespace for one service, and subsets that the DestinationRule for the service does
 * not have: connections to them would be refused.
 */
export function checkVirtualServices(resources: readonly Resource[], problems: ProblemList): void {
  const services = resources.filter((resource) => resource.kind === 'VirtualService');
  if (services.length === 0) return;
  const documents = compileDestinationRules(resources.filter((resource) => resource.kind === 'DestinationRule'));
  const mesh = resources.find((resource) => resource.kind === 'Mesh')?.spec ?? defaultMesh;
  const rules = new DocumentsByHost({ documents, rootNamespace: mesh.rootNamespace });
  const firsts = new Map<string, VirtualService>();
  for (const service of services.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const { namespace } = service.metadata;
    const host = hostOf(service.spec.hosts[0] ?? '', namespace);
    const first = firsts.get(`${namespace} ${host}`);
    if (first === undefined) firsts.set(`${namespace} ${host}`, service);
    else {
      const message = `${formatResourceId(resourceId(first))} is for ${host} already, in the same namespace`;
      problems.error({ resource: service, path: ['spec', 'hosts', 0] }, message, 'write its routes into one document');
    }
    checkSubsets(service, host, rules, problems);
  }
}

function checkSubsets(
  service: VirtualService,
  host: string,
  rules: DocumentsByHost<ReturnType<typeof compileDestinationRules>[number]>,
  problems: ProblemList,
): void {
  const [namespace = '', name = ''] = (serviceOfHost(host) ?? '').split('/');
  const rule = rules.find({ namespace, name }, service.metadata.namespace);
  const known = (rule?.subsets ?? []).map((subset) => subset.name);
  for (const [at, { route }] of service.spec.tcp.entries()) {
    for (const [index, { destination }] of route.entries()) {
      const { subset } = destination;
      if (subset === undefined || known.includes(subset)) continue;
      const path = ['spec', 'tcp', at, 'route', index, 'destination', 'subset'];
      const message =
        rule === null
          ? `names the subset ${subset}, and there is no DestinationRule for ${namespace}/${name}`
          : `names the subset ${subset}, which DestinationRule/${rule.namespace}/${rule.name} does not have`;
      const hint = known.length === 0 ? 'write one with this subset and its labels' : `it has ${known.join(', ')}`;
      problems.error({ resource: service, path }, message, hint);
    }
  }
}
