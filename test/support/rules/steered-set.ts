import type { RuleSet } from '../../../controller/analysis/pairs/rule-set.js';
import type {
  CompiledDestinationRule,
  CompiledRateLimit,
  CompiledVirtualService,
} from '../../../shared/policy/traffic-documents.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { registryService, workloadEntry } from './analysis-fixture.js';
import { snapshotOf } from './policy-fixture.js';

/** A service with three workloads in two versions, its clients, and documents that steer them, for the tests of analyses. */
const steeredHost = 'web.shop.svc.cluster.local';

export const steeredEntries: readonly RegistryEntry[] = [
  workloadEntry('shop/api', ['198.18.0.1']),
  workloadEntry('reports/job', ['198.18.0.2'], { labels: { app: 'job' } }),
  workloadEntry('shop/a', ['198.18.1.1'], { labels: { app: 'web', version: 'v1' } }),
  workloadEntry('shop/b', ['198.18.1.2'], { labels: { app: 'web', version: 'v1' } }),
  workloadEntry('shop/c', ['198.18.1.3'], { labels: { app: 'web', version: 'v2' } }),
  registryService('shop/web', {
    vips: ['198.19.0.1'],
    ports: [{ port: 80, targetPort: 8080 }],
    selector: { app: 'web' },
  }),
];

export const steeredRule: CompiledDestinationRule = {
  namespace: 'shop',
  name: 'web',
  host: steeredHost,
  policy: {},
  ports: {},
  subsets: ['v1', 'v2'].map((version) => ({ name: version, labels: { version }, policy: {}, ports: {} })),
};

export function virtualService(...routes: CompiledVirtualService['routes']): CompiledVirtualService {
  return { namespace: 'shop', name: 'web', host: steeredHost, routes };
}

/** Absent documents are none. */
export function steeredSet(rest: {
  readonly destinationRules?: readonly CompiledDestinationRule[];
  readonly virtualServices?: readonly CompiledVirtualService[];
  readonly rateLimits?: readonly CompiledRateLimit[];
}): RuleSet {
  return { snapshot: snapshotOf({ rest, mesh: { defaultAction: 'allow' } }), entries: steeredEntries };
}
