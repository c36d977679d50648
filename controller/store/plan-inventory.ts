import { isDeepStrictEqual } from 'node:util';
import type { Inventory } from '../inventory/inventory.js';
import type { SourceChange, SourceEntry } from '../inventory/inventory-source.js';
import { registryEntries } from '../inventory/registry-entries.js';
import { isInventoryKind, registryKeyOf, type DocumentsChange } from '../inventory/stored-resource.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import { encodePayload } from '../../shared/wire/signed-envelope.js';
import { maxRegistryEntryBytes } from '../../shared/wire/signed.js';
import type { ResourceChange } from './history.js';
import type { Author } from './plan-change.js';

/** What a change of documents does to the inventory. */
export type InventoryPlan = {
  /** Documents that are the same as before are not in it. */
  readonly change: SourceChange;
  /** The same, as the journal has it when rules change too. */
  readonly documents: DocumentsChange;
  /** One for each document, also of those that stay as they are. */
  readonly changes: readonly ResourceChange[];
  /** Documents that give no entry: the change must not be made. */
  readonly problems: readonly Problem[];
};

/** Documents by whose business they are. */
export function splitResources(resources: readonly Resource[]): {
  readonly rules: readonly Resource[];
  readonly inventory: readonly Resource[];
} {
  return {
    rules: resources.filter(({ kind }) => !isInventoryKind(kind)),
    inventory: resources.filter(({ kind }) => isInventoryKind(kind)),
  };
}

/** What applying workloads and services would do now. Errors: `PAYLOAD_TOO_LARGE`. */
export function planInventoryApply(o: {
  readonly inventory: Inventory;
  readonly trustDomain: string;
  readonly resources: readonly Resource[];
  readonly locations: ReadonlyMap<string, ResourceLocation>;
  readonly author: Author;
}): InventoryPlan {
  const { inventory, trustDomain, resources, locations, author } = o;
  const upserts: SourceEntry[] = [];
  const changes: ResourceChange[] = [];
  const problems: Problem[] = [];
  const appliedAt = new Date(author.nowMs).toISOString();
  for (const resource of resources) {
    const key = resourceKey(resource);
    const present = inventory.documents.get(registryKeyOf(key))?.document?.resource;
    const isSame = isDeepStrictEqual(present, resource);
    const change = present === undefined ? 'created' : isSame ? 'unchanged' : 'configured';
    changes.push({ ...resourceId(resource), change });
    if (isSame) continue;
    const made = registryEntries([resource], trustDomain, locations);
    if ('problems' in made) problems.push(...made.problems);
    else {
      for (const entry of made.entries) {
        encodePayload(entry, maxRegistryEntryBytes, `the registry entry ${registryKeyOf(key)}`);
        const document = { key, resource, revision: inventory.sequence + 1, appliedAt, appliedBy: author.by };
        upserts.push({ entry, document });
      }
    }
  }
  const puts = upserts.flatMap(({ document }) => document ?? []);
  return { change: { upserts, removals: [] }, documents: { puts, deletes: [] }, changes, problems };
}

/** What deleting a workload or a service would do now; undefined when there is no such document. */
export function planInventoryDelete(inventory: Inventory, id: ResourceId): InventoryPlan | undefined {
  const key = resourceIdKey(id);
  const registryKey = registryKeyOf(key);
  if (!inventory.documents.has(registryKey)) return undefined;
  return {
    change: { upserts: [], removals: [registryKey] },
    documents: { puts: [], deletes: [key] },
    changes: [{ ...id, change: 'deleted' }],
    problems: [],
  };
}
