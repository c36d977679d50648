import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryLookup } from './registry-lookup.js';
import { serviceAccountName, serviceName, workloadName } from '../../../shared/routing/names.js';

/** The prefix that selects a kind in `service:billing/db`; null: any kind. */
export type NameWord = 'workload' | 'service' | 'sa' | null;

/** What is registered under `namespace/name`. */
export type RegisteredName =
  | { readonly kind: 'workload'; readonly workload: WorkloadEntry }
  | { readonly kind: 'service'; readonly service: RegistryService }
  /** At least one. */
  | { readonly kind: 'serviceAccount'; readonly workloads: readonly WorkloadEntry[] }
  | { readonly kind: 'unknown' };

/** Looks for a workload, then for a service (destinations only), then for a service account; `word` chooses one. */
export function resolveName(
  registry: RegistryLookup,
  { word, name }: { readonly word: NameWord; readonly name: string },
  side: 'source' | 'destination',
): RegisteredName {
  const [namespace = '', short = ''] = name.split('/');
  const parts = { namespace, name: short };
  const workload = word === null || word === 'workload' ? registry.workload(workloadName(parts)) : undefined;
  if (workload !== undefined) return { kind: 'workload', workload };
  const mayBeService = side === 'destination' && (word === null || word === 'service');
  const service = mayBeService ? registry.service(serviceName(parts)) : undefined;
  if (service !== undefined) return { kind: 'service', service };
  const workloads =
    word === null || word === 'sa' ? registry.runningAs(serviceAccountName({ namespace, serviceAccount: short })) : [];
  return workloads.length > 0 ? { kind: 'serviceAccount', workloads } : { kind: 'unknown' };
}
