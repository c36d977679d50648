import type { Log } from '../../shared/log.js';
import type { Inventory } from '../inventory/inventory.js';
import type { InventoryTurn } from '../inventory/inventory-turn.js';
import type { StoreContent } from '../publish/distribution.js';
import type { Commit } from '../release/committed-state.js';
import type { History } from './history.js';
import { chooseInventory, inventoryChangeOf } from './recover-state.js';

/**
 * Brings the inventory to what NATS and the history have of it. Runs before the rules are compiled, because they may name
 * services. `revision` is that of the rules that won.
 */
export async function settleInventory(init: {
  readonly inventory: Inventory;
  readonly turn: InventoryTurn;
  readonly content: StoreContent;
  readonly revision: number;
  readonly history: History;
  readonly log: Log;
}): Promise<void> {
  const { inventory, turn, content, revision, history, log } = init;
  const adopted = chooseInventory(inventory, content, revision);
  if (adopted !== null) {
    if (adopted.documents.length > 0) {
      const { sequence, documents } = adopted;
      log.warn({ sequence, documents: documents.length }, 'took over from NATS what the inventory does not hold');
    }
    await turn.adopt(adopted.documents, adopted);
  } else if (inventory.revision > revision) {
    // The rules begin again at a lower revision: the inventory must not take those that follow for ones that it has.
    const documents = [...inventory.documents.values()].flatMap(({ document }) => document ?? []);
    await turn.adopt(documents, { sequence: inventory.sequence, revision });
  }
  const unfinished = [
    ...history.records.map(({ commit }) => commit),
    ...(content.intent === undefined ? [] : [content.intent]),
  ];
  for (const commit of unfinished) {
    // An intent that did not become part of the rules is undone.
    if (commit.revision > revision) continue;
    await handOver(inventory, turn, commit);
  }
}

/** Applies the inventory part of a commit, unless it was applied before. */
export async function handOver(
  inventory: Inventory,
  turn: InventoryTurn,
  { revision, inventory: part }: Commit,
): Promise<void> {
  if (part === undefined || revision <= inventory.revision) return;
  await turn.commit(inventoryChangeOf(inventory, part), revision);
}
