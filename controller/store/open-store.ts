import { join } from 'node:path';
import type { Log } from '../../shared/log.js';
import { Inventory, type WrapFile } from '../inventory/inventory.js';
import { isInventoryDocument } from '../inventory/stored-resource.js';
import { InventoryPublication } from '../publish/inventory-publication.js';
import type { RevisionCompiler } from '../release/compiled-revision.js';
import type { CommittedState } from '../release/committed-state.js';
import type { HistoryLimits } from './history.js';
import { Journal } from './journal.js';
import { inventoryChangeOf } from './recover-state.js';
import { ResourceStore } from './resource-store.js';

export type OpenedStore = {
  readonly store: ResourceStore;
  /** Call it when the store is idle. */
  readonly close: () => Promise<void>;
};

/**
 * Opens the journal, the inventory, and the store on top of them. First the inventory catches up with the journal: it applies
 * its part of a change that a crash interrupted, and takes over all workloads and services from a state directory of a
 * version without an inventory. Errors: `JOURNAL_READ`, `JOURNAL_WRITE`, `STORE_INVALID`.
 */
export async function openStore(init: {
  readonly stateDir: string;
  readonly trustDomain: string;
  readonly builder: RevisionCompiler;
  /** Signs the registry. */
  readonly privateKeyPem: string;
  readonly limits: HistoryLimits;
  /** Custom resources of a cluster are rules too, and are changed there only. */
  readonly hasCluster?: boolean;
  readonly log: Log;
  readonly nowMs: () => number;
  /** For tests: wrap the files. */
  readonly wrapJournal?: (journal: Journal) => Pick<Journal, 'append' | 'checkpoint' | 'history'>;
  readonly wrapInventory?: WrapFile;
}): Promise<OpenedStore> {
  const {
    stateDir,
    trustDomain,
    builder,
    privateKeyPem,
    limits,
    log,
    nowMs,
    wrapJournal = (journal) => journal,
  } = init;
  const opened = await Journal.open({ path: join(stateDir, 'journal.log'), log, nowMs, limits });
  const { journal } = opened;
  let inventory: Inventory | undefined;
  try {
    inventory = await Inventory.open({
      path: join(stateDir, 'inventory.log'),
      log,
      nowMs,
      trustDomain,
      ...(init.wrapInventory === undefined ? {} : { wrapFile: init.wrapInventory }),
    });
    const state = await handOver(journal, opened.state, inventory, log);
    const publication = new InventoryPublication({
      inventory,
      privateKeyPem,
      onFailure: (error) => {
        log.warn({ err: error }, 'could not write a change of the registry to NATS');
        store.noteUnpublished();
      },
    });
    const store = new ResourceStore({
      journal: wrapJournal(journal),
      state,
      inventory,
      publication,
      builder,
      trustDomain,
      hasCluster: init.hasCluster ?? false,
      log,
      nowMs,
    });
    const close = async (): Promise<void> => {
      await inventory?.close();
      await journal.close();
    };
    return { store, close };
  } catch (error) {
    await inventory?.close();
    await journal.close();
    throw error;
  }
}

/** Lets the inventory catch up with the journal. Returns the state of the rules. */
async function handOver(
  journal: Journal,
  state: CommittedState | undefined,
  inventory: Inventory,
  log: Log,
): Promise<CommittedState | undefined> {
  if (state === undefined) return undefined;
  if (journal.history.inventorySince === null) {
    // An inventory on disk means that an earlier start did the first half and then crashed.
    if (!inventory.isUsable) {
      const { revision } = state;
      const documents = [...state.resources.values()].filter(({ key }) => isInventoryDocument(key));
      await inventory.exclusively((turn) => turn.adopt(documents, { sequence: revision, revision }));
      log.info(
        { documents: documents.length, sequence: inventory.sequence },
        'moved workloads and services out of the journal',
      );
    }
    return journal.handOver();
  }
  if (!inventory.isUsable) {
    log.error('inventory.log is missing or damaged: workloads and services are taken over from NATS');
    return state;
  }
  for (const { commit } of journal.history.records) {
    const { inventory: part, revision } = commit;
    if (part === undefined || revision <= inventory.revision) continue;
    log.warn({ revision }, 'completed an interrupted change of the inventory');
    await inventory.exclusively((turn) => turn.commit(inventoryChangeOf(inventory, part), revision));
  }
  return state;
}
