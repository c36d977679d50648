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
  /** Neither the journal nor NATS holds anything. */
  | { readonly kind: 'first start' }
  /** The journal is right, and NATS is brought to it. */
  | { readonly kind: 'journal' }
  /** NATS is right: the journal is lost, or older because the state directory was restored from a backup. */
  | { readonly kind: 'adopt'; readonly state: CommittedState };

/**
 * Decides between the journal and NATS when the controller starts or reconnects. The journal wins, because it is fsynced,
 * and NATS acknowledges writes before they are on disk. NATS wins only when it proves, by a snapshot with our signature,
 * that the journal lacks revisions. Then its documents are adopted, completed by an intent that was not carried out.
 *
 * Throws CulvertError `STORE_FOREIGN` when the store belongs to another controller, and `STORE_INVALID` when documents
 * are needed that cannot be read: leaving one out could take a rule away.
 */
export function chooseState(journal: CommittedState | undefined, content: StoreContent): ChosenState {
  const { published, resources, intent } = content;
  if (published.kind === 'foreign') {
    // Our own buckets were damaged or forged: the journal repairs them.
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

/** Documents are not signed, so each must at least be valid and stored under its own key. */
function assertReadable(resources: readonly StoredResource[], unreadable: readonly string[]): void {
  const misplaced = resources.filter(({ key, resource }) => {
    const read = readResource(resource);
    return !('resource' in read) || resourceKey(read.resource) !== key;
  });
  const [first, ...others] = [...unreadable, ...misplaced.map(({ key }) => key)];
  if (first === undefined) return;
  throw new CulvertError({
    code: 'STORE_INVALID',
    message: `NATS holds no valid document under ${first}${others.length === 0 ? '' : ` and ${others.length} more keys`}, and the journal cannot replace it`,
    hint: 'restore journal.log and inventory.log in the state directory from a backup; or, if they are not needed, delete these keys from the bucket culvert_config',
  });
}

/**
 * What the inventory must first adopt from NATS; null when it is nothing. Like the journal, the file wins unless it is lost,
 * or a root with our signature proves that it lacks changes. `revision` is that of the rules that won. Errors:
 * `STORE_INVALID`.
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
    // NATS may lack the inventory part of the last announced change.
    revision: isUnfinished ? revision - 1 : revision,
  };
}

/** A commit's inventory part as a change of the documents source. */
export function inventoryChangeOf(inventory: Inventory, { puts, deletes }: DocumentsChange): SourceChange {
  return { upserts: puts.map((document) => inventory.entryOf(document)), removals: deletes.map(registryKeyOf) };
}

/** Whether NATS holds exactly the documents of the journal: then only the rules are forged. */
function isOurStore(journal: CommittedState, resources: readonly StoredResource[]): boolean {
  if (resources.length === 0 || resources.length !== journal.resources.size) return false;
  return resources.every(({ key, revision, appliedAt }) => {
    const ours = journal.resources.get(key);
    return ours?.revision === revision && ours.appliedAt === appliedAt;
  });
}

/** With both journal and pointer lost, only the documents are left. They contain their revisions. */
function withoutPointer(resources: readonly StoredResource[], inventory: readonly StoredResource[]): CommittedState {
  // Inventory documents contain its sequence, which is never below the revisions from before there was an inventory.
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
    hint: 'restore the state directory of the controller that wrote them; or, if they are not needed, delete the buckets culvert_config, culvert_rules and culvert_registry',
  });
}
