import { nearestName } from '../../../shared/nearest-name.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import { parsePortRange } from '../../resources/kinds/segmentation-rule.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Registered } from './registered.js';

/** Warns about names of ports that no workload has: they match nothing, and a Service has no endpoint behind them. */
export function checkPortNames(resources: readonly Resource[], registered: Registered, problems: ProblemList): void {
  let known: ReadonlySet<string> | null = null;
  for (const resource of resources) {
    for (const { name, path } of portNamesIn(resource)) {
      known ??= namesOf(registered);
      if (known.has(name)) continue;
      const all = known;
      problems.warn({ resource, path }, `no workload has a port named "${name}"`, () => {
        const nearest = nearestName(name, all);
        return nearest === undefined ? 'name it in spec.ports of the Workload' : `did you mean "${nearest}"?`;
      });
    }
  }
}

type Written = { readonly name: string; readonly path: readonly PropertyKey[] };

function* portNamesIn(resource: Resource): Generator<Written> {
  switch (resource.kind) {
    case 'SegmentationRule':
      for (const [index, port] of (resource.spec.ports ?? []).entries()) {
        if (typeof port !== 'string' || parsePortRange(port) !== undefined) continue;
        yield { name: port, path: ['spec', 'ports', index] };
      }
      break;
    case 'Service':
      for (const [index, { targetPort }] of resource.spec.ports.entries()) {
        if (typeof targetPort === 'string') yield { name: targetPort, path: ['spec', 'ports', index, 'targetPort'] };
      }
      break;
    case 'NetworkPolicy':
      for (const direction of ['ingress', 'egress'] as const) {
        for (const [ruleIndex, { ports = [] }] of (resource.spec[direction] ?? []).entries()) {
          for (const [index, { port }] of ports.entries()) {
            if (typeof port !== 'string') continue;
            yield { name: port, path: ['spec', direction, ruleIndex, 'ports', index, 'port'] };
          }
        }
      }
      break;
    case 'ClusterNetworkPolicy':
      for (const direction of ['ingress', 'egress'] as const) {
        for (const [ruleIndex, { protocols = [] }] of (resource.spec[direction] ?? []).entries()) {
          for (const [index, { destinationNamedPort: name }] of protocols.entries()) {
            if (name !== undefined) yield { name, path: ['spec', direction, ruleIndex, 'protocols', index] };
          }
        }
      }
      break;
    case 'AdminNetworkPolicy':
    case 'BaselineAdminNetworkPolicy':
      for (const direction of ['ingress', 'egress'] as const) {
        for (const [ruleIndex, { ports = [] }] of (resource.spec[direction] ?? []).entries()) {
          for (const [index, { namedPort: name }] of ports.entries()) {
            if (name !== undefined) yield { name, path: ['spec', direction, ruleIndex, 'ports', index] };
          }
        }
      }
      break;
    default:
      break;
  }
}

function namesOf(registered: Registered): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { ports = {} } of registered.workloads()) for (const name of Object.keys(ports)) names.add(name);
  return names;
}
