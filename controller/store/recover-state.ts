import { CulvertError } from '../../shared/errors.js';
import { readResource } from '../resources/parse/read-resource.js';
import { resourceKey } from '../resources/kinds/resource-key.js';
import type { StoreContent } from '../publish/distribution.js';
import type { Inventory } from '../inventory/inventory.js';
import type { SourceChange } from '../inventory/inventory-source.js';
import {
  isInventoryDocument,
  registryKeyOf,
  type DocumentsChange,
  type StoredResource,
} from '../inventory/stored-resource.js';
import { applyCommit, type CommittedState } from '../release/committed-state.js';

export type ChosenState =
  /** Nothing was ever applied, here or there. */
  | { readonly kind: 'first start' }
  /** What the journal says holds: NATS is brought to it. */
  | { readonly kind: 'journal' }
  /** The journal is lost, or older than NATS (the state directory came from a backup). */
  | { readonly kind: 'adopt'; readonly state: CommittedState };

/**
 * Who is right when the controller starts or finds NATS again. The journal is: it is fsynced, NATS acknowledges before
 * it is. Only when NATS proves, by a snapshot with our signature, that more was applied than the journal knows, its
 * documents count, completed by an intent that was not carried out.
 *
 * Throws CulvertError `STORE_FOREIGN` when the store belongs to another controller, and `STORE_INVALID` when documents
 * are needed that cannot be read: leaving one out could take a rule away.
 */
export function chooseState(journal: CommittedState | undefined, content: StoreContent): ChosenState {
  const { published, resources, intent } = content;
  if (published.kind === 'foreign') {
    // Something in our own buckets was damaged or forged: the journal repairs it.
    if (journal === undefined) throw foreign(published.revision);
    if ((published.revision ?? 0) <= journal.revision || isOurStore(journal, resources)) return { kind: 'journal' };
    throw foreign(published.revision);
  }
  if (published.kind === 'none') {
    if (journal !== undefined) return { kind: 'journal' };
    assertReadable(resources, content.unreadable);
    const { inventory } = content;
    if (resources.length + inventory.length === 0) return { kind: 'first start' };
    return { kind: 'adopt', state: withoutPointer(resources, inventory) };
  }
  const { revision, createdAt, createdBy } = published.snapshot;
  if (journal !== undefined && journal.revision >= revision) return { kind: 'journal' };
  const isUnfinished = intent !== undefined && intent.revision > revision;
  assertReadable([...resources, ...(isUnfinished ? intent.puts : [])], content.unreadable);
  const state: CommittedState = {
    revision,
    createdAt,
    createdBy,
    resources: new Map(resources.map((stored) => [stored.key, stored])),
  };
  return { kind: 'adopt', state: isUnfinished ? applyCommit(state, intent) : state };
}

/** Documents are not signed: each must at least be what could have been applied, in its own place. */
function assertReadable(resources: readonly StoredResource[], unreadable: readonly string[]): void {
  const misplaced = resources.filter(({ key, resource }) => {
    const read = readResource(resource);
    return !('resource' in read) || resourceKey(read.resource) !== key;
  });
  const [first, ...others] = [...unreadable, ...misplaced.map(({ key }) => key)];
  if (first === undefined) return;
  throw new CulvertError({
    code: 'STORE_INVALID',
    message: `NATS holds what is no document under ${first}${others.length === 0 ? '' : ` and ${others.length} more keys`}, and the journal does not know better`,
    hint: 'restore journal.log and inventory.log in the state directory from a backup; or, when nobody needs them, delete these keys from the bucket culvert_config',
  });
}

/**
 * What the inventory has to take over from NATS before anything else; null: nothing. As with the journal, what is on disk
 * holds, unless it is lost, or a root with our signature proves that more was published than it knows. `revision`: of the
 * rules that hold. Errors: `STORE_INVALID`.
 */
export function chooseInventory(
  inventory: Pick<Inventory, 'isUsable' | 'sequence'>,
  content: StoreContent,
  revision: number,
): { readonly documents: readonly StoredResource[]; readonly sequence: number; readonly revision: number } | null {
  const published = content.inventorySequence ?? 0;
  if (inventory.isUsable && published <= inventory.sequence) return null;
  assertReadable(content.inventory, content.unreadable.filter(isInventoryDocument));
  const isUnfinished = content.intent?.revision === revision;
  return {
    documents: content.inventory,
    sequence: Math.max(published, inventory.sequence),
    // The part of a change that was announced last may be missing in NATS.
    revision: isUnfinished ? revision - 1 : revision,
  };
}

/** What a commit does to the inventory. */
export function inventoryChangeOf(inventory: Inventory, { puts, deletes }: DocumentsChange): SourceChange {
  return { upserts: puts.map((document) => inventory.entryOf(document)), removals: deletes.map(registryKeyOf) };
}

/** Whether the documents beside the rules are just those that the journal knows: then only the rules are forged. */
function isOurStore(journal: CommittedState, resources: readonly StoredResource[]): boolean {
  if (resources.length === 0 || resources.length !== journal.resources.size) return false;
  return resources.every(({ key, revision, appliedAt }) => {
    const ours = journal.resources.get(key);
    return ours?.revision === revision && ours.appliedAt === appliedAt;
  });
}

/** Journal and pointer are both lost: the documents are all that is left, and they know their revisions. */
function withoutPointer(resources: readonly StoredResource[], inventory: readonly StoredResource[]): CommittedState {
  // Those of the inventory count its own sequence, which is never behind the revisions that came before there was one.
  const newest = [...resources, ...inventory].reduce((a, b) => (b.revision > a.revision ? b : a));
  return {
    revision: newest.revision + 1,
    createdAt: newest.appliedAt,
    createdBy: newest.appliedBy,
    resources: new Map(resources.map((stored) => [stored.key, stored])),
  };
}

function foreign(revision: number | null): CulvertError {
  return new CulvertError({
    code: 'STORE_FOREIGN',
    message: `NATS holds rules ${revision === null ? '' : `of revision ${revision} `}that this controller did not sign`,
    hint: 'restore the state directory of the controller that wrote them; or, when nobody needs them, delete the buckets culvert_config, culvert_rules and culvert_registry',
  });
}
