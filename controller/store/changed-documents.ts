import type { DocumentChange } from '../access/scope.js';
import type { Inventory } from '../inventory/inventory.js';
import { registryKeyOf } from '../inventory/stored-resource.js';
import type { CommittedState } from '../release/committed-state.js';
import type { InventoryPlan } from './plan-inventory.js';
import type { WholePlan } from './change-planner.js';

/** Throws when the author of a change may not make it. Called before anything is changed, also for a dry run. `nowMs`: when. */
export type Permit = (changes: readonly DocumentChange[], nowMs: number) => void;

/** Called when a change was found to be valid, before anything of it is written. If it rejects, nothing is changed. */
export type Begin = () => Promise<void>;

/** The documents that a plan changes. What stays the same is not among them. */
export function changedDocuments(
  { resources }: CommittedState,
  inventory: Inventory,
  { rules, inventory: registered }: WholePlan,
): DocumentChange[] {
  const { puts, deletes } = rules.ok && rules.commit !== null ? rules.commit : { puts: [], deletes: [] };
  return [
    ...puts.map(({ key, resource }) => ({ before: resources.get(key)?.resource ?? null, after: resource })),
    ...deletes.map((key) => ({ before: resources.get(key)?.resource ?? null, after: null })),
    ...(registered === null ? [] : changedEntries(inventory, registered)),
  ];
}

/** The same for workloads and services. */
export function changedEntries(inventory: Inventory, { documents }: InventoryPlan): DocumentChange[] {
  const before = (key: string) => inventory.documents.get(registryKeyOf(key))?.document?.resource ?? null;
  return [
    ...documents.puts.map(({ key, resource }) => ({ before: before(key), after: resource })),
    ...documents.deletes.map((key) => ({ before: before(key), after: null })),
  ];
}
