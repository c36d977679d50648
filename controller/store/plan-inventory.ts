import { isDeepStrictEqual } from 'node:util';
import type { Inventory } from '../inventory/inventory.js';
import { claimsOf } from '../inventory/entry-claims.js';
import type { SourceChange, SourceEntry } from '../inventory/inventory-source.js';
import { registryEntries } from '../inventory/registry-entries.js';
import type { CommittedState } from '../release/committed-state.js';
import { isInventoryKind, registryKeyOf, type DocumentsChange } from '../inventory/stored-resource.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import { encodePayload } from '../../shared/wire/signed-envelope.js';
import { maxRegistryEntryBytes } from '../../shared/wire/signed.js';
import type { ResourceChange } from './history.js';
import type { Author } from './plan-change.js';

/** What a change of documents does to the inventory. */
export type InventoryPlan = {
  /** Without documents that stay the same. */
  readonly change: SourceChange;
  /** The same change in the form of the journal, for when rules change too. */
  readonly documents: DocumentsChange;
  /** One per document, including those that stay the same. */
  readonly changes: readonly ResourceChange[];
  /** Documents that give no valid entry. With any of them, the change must not be made. */
  readonly problems: readonly Problem[];
};

/** Documents to delete, all or none of them. */
export type Deletion = {
  readonly ids: readonly ResourceId[];
  /** Called with those that do not exist, maybe twice. Without it, or if it returns false, nothing is deleted. */
  readonly onMissing?: (missing: readonly ResourceId[]) => boolean;
};

/** Divides documents into rules and documents of the inventory. */
export function splitResources(resources: readonly Resource[]): {
  readonly rules: readonly Resource[];
  readonly inventory: readonly Resource[];
} {
  return {
    rules: resources.filter(({ kind }) => !isInventoryKind(kind)),
    inventory: resources.filter(({ kind }) => isInventoryKind(kind)),
  };
}

/** Divides documents to delete in the same way, each named once, and lists those that do not exist. */
export function splitExisting(
  ids: readonly ResourceId[],
  { resources }: Pick<CommittedState, 'resources'>,
  inventory: Inventory,
): { readonly rules: ResourceId[]; readonly registered: ResourceId[]; readonly missing: ResourceId[] } {
  const split = { rules: [] as ResourceId[], registered: [] as ResourceId[], missing: [] as ResourceId[] };
  for (const [key, id] of new Map(ids.map((id) => [resourceIdKey(id), id]))) {
    if (!isInventoryKind(id.kind)) (resources.has(key) ? split.rules : split.missing).push(id);
    else (inventory.documents.has(registryKeyOf(key)) ? split.registered : split.missing).push(id);
  }
  return split;
}

/** Plans to apply workloads and services now. Errors: `PAYLOAD_TOO_LARGE`. */
export function planInventoryApply(init: {
  readonly inventory: Inventory;
  readonly trustDomain: string;
  readonly resources: readonly Resource[];
  readonly locations: ReadonlyMap<string, ResourceLocation>;
  readonly author: Author;
}): InventoryPlan {
  const { inventory, trustDomain, resources, locations, author } = init;
  const upserts: SourceEntry[] = [];
  const changes: ResourceChange[] = [];
  const problems: Problem[] = [];
  const appliedAt = new Date(author.nowMs).toISOString();
  const claims = new ClaimCounts({ locations });
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
        if (claims.isTooMany(resource, entry)) continue;
        encodePayload(entry, maxRegistryEntryBytes, `the registry entry ${registryKeyOf(key)}`);
        const document = { key, resource, revision: inventory.sequence + 1, appliedAt, appliedBy: author.by };
        upserts.push({ entry, document });
      }
    }
  }
  problems.push(...claims.problems);
  const puts = upserts.flatMap(({ document }) => document ?? []);
  return { change: { upserts, removals: [] }, documents: { puts, deletes: [] }, changes, problems };
}

/** Each document is compared with those that claim the same, so the time grows with the square of this. */
const maxClaimants = 16;

/** How many documents of one change claim the same address or network namespace. */
class ClaimCounts {
  readonly #counts = new Map<string, number>();
  readonly #found: ProblemList;

  constructor(init: { readonly locations: ReadonlyMap<string, ResourceLocation> }) {
    this.#found = new ProblemList(init);
  }

  get problems(): readonly Problem[] {
    return this.#found.errors;
  }

  isTooMany(resource: Resource, entry: RegistryEntry): boolean {
    let isTooMany = false;
    for (const claim of claimsOf(entry)) {
      const count = (this.#counts.get(claim) ?? 0) + 1;
      this.#counts.set(claim, count);
      if (count <= maxClaimants) continue;
      isTooMany = true;
      const message = `${claim} is claimed by more than ${maxClaimants} documents`;
      this.#found.error({ resource, path: ['spec'] }, message, 'only one document can have it');
    }
    return isTooMany;
  }
}

/** Plans to delete workloads and services, which exist. */
export function planInventoryDelete(ids: readonly ResourceId[]): InventoryPlan {
  const keys = ids.map(resourceIdKey);
  return {
    change: { upserts: [], removals: keys.map(registryKeyOf) },
    documents: { puts: [], deletes: keys },
    changes: ids.map((id) => ({ ...id, change: 'deleted' })),
    problems: [],
  };
}
