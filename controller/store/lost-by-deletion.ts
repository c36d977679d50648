import { lostWithNamespace, SelectedBy } from '../analysis/diff/selected-by.js';
import type { Inventory } from '../inventory/inventory.js';
import type { AppliedChange } from '../inventory/merged-registry.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import type { Problem } from '../resources/kinds/problem.js';
import { formatResourceId, type ResourceId } from '../resources/kinds/resource-key.js';
import type { WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { selects } from '../../shared/routing/registry-view.js';

/** More are counted. */
const maxNamed = 8;

const known = new WeakMap<CompiledRevision, SelectedBy>();

/**
 * A warning for each workload that was just deleted, with the rules and services that apply to it by its labels, namespace,
 * node or account. Those that have a warning of their own in `warnings` are left out.
 */
export function lostByDeletion(init: {
  readonly inventory: Inventory;
  readonly release: CompiledRevision;
  readonly applied: AppliedChange;
  readonly warnings: readonly Problem[];
}): Problem[] {
  const { inventory, release, applied, warnings } = init;
  const named = new Set(warnings.map(({ resource }) => resource));
  const problems: Problem[] = [];
  for (const [key, before] of applied.published) {
    if (before?.entry.kind !== 'workload' || inventory.registry.published.has(key)) continue;
    const { entry } = before;
    let selectedBy = known.get(release);
    if (selectedBy === undefined) known.set(release, (selectedBy = new SelectedBy(release)));
    const all = [...selectedBy.documentsOf(entry), ...servicesOf(inventory, entry)];
    const lost = all.filter((resource) => !named.has(resource));
    if (lost.length === 0) continue;
    const { namespace, name } = entry;
    const message = `is selected by ${listed(lost)}, by its labels, namespace, node or account`;
    const hint = 'what they say no longer applies to its addresses';
    problems.push(warning({ kind: 'Workload', namespace, name }, message, hint));
  }
  return problems;
}

/**
 * A warning when rules select workloads of a Namespace that is to be deleted by its labels. `gone`: rules that are deleted with
 * it, as {@link formatResourceId}.
 */
export function lostWithLabels(
  inventory: Inventory,
  { snapshot }: CompiledRevision,
  { id, gone }: { readonly id: ResourceId; readonly gone: ReadonlySet<string> },
): Problem[] {
  const { registry } = inventory;
  const workloads: WorkloadEntry[] = [];
  for (const { namespace, name } of registry.registered.workloadsIn(id.name)) {
    const entry = registry.published.get(`workload.${namespace}.${name}`)?.entry;
    if (entry?.kind === 'workload') workloads.push(entry);
  }
  const lost = [...lostWithNamespace(snapshot, id.name, workloads)].filter((resource) => !gone.has(resource));
  if (lost.length === 0) return [];
  const message = `workloads of this namespace are selected by its labels in ${listed(lost.sort())}`;
  return [warning(id, message, 'without the labels these no longer match them')];
}

function servicesOf({ documents, registry }: Inventory, workload: WorkloadEntry): string[] {
  const { namespace } = workload;
  const found: string[] = [];
  for (const name of registry.registered.servicesIn(namespace)) {
    const resource = documents.get(`service.${namespace}.${name}`)?.document?.resource;
    if (resource?.kind !== 'Service') continue;
    if (selects({ namespace, selector: resource.spec.selector }, workload)) found.push(`Service/${namespace}/${name}`);
  }
  return found.sort();
}

function listed(resources: readonly string[]): string {
  const more = resources.length - maxNamed;
  return more <= 0 ? resources.join(', ') : `${resources.slice(0, maxNamed).join(', ')} and ${more} more`;
}

function warning(id: ResourceId, message: string, hint: string): Problem {
  const nowhere = { fileName: null, document: null, line: null, path: '' };
  return { severity: 'warning', ...nowhere, resource: formatResourceId(id), message, hint };
}
