import type { ProblemList } from '../../resources/parse/problem-list.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { netnsPath } from '../../resources/kinds/workload.js';

type Place = { readonly resource: Resource; readonly path: readonly PropertyKey[] };

/** Reports addresses, and network namespaces of one node, that two resources claim: traffic would have two owners. */
export function checkAddresses(resources: readonly Resource[], problems: ProblemList): void {
  const owners = new Map<string, Place>();
  const claim = (key: string, what: string, place: Place) => {
    const owner = owners.get(key);
    if (owner === undefined) {
      owners.set(key, place);
      return;
    }
    const message = `${what} belongs to ${formatResourceId(resourceId(owner.resource))} already`;
    problems.error(place, message, 'remove it from one of the two');
  };
  for (const resource of resources) {
    if (resource.kind === 'Service') {
      for (const [index, ip] of resource.spec.vips.entries()) {
        claim(ip, ip, { resource, path: ['spec', 'vips', index] });
      }
    }
    if (resource.kind !== 'Workload') continue;
    const { addresses, node, netns } = resource.spec;
    for (const [index, ip] of addresses.entries()) claim(ip, ip, { resource, path: ['spec', 'addresses', index] });
    if (node === undefined || netns === undefined) continue;
    claim(`${node}:${netnsPath(netns)}`, `${netns} on ${node}`, { resource, path: ['spec', 'netns'] });
  }
}
