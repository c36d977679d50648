import type { Inventory } from '../inventory/inventory.js';
import type { InventoryTurn } from '../inventory/inventory-turn.js';
import type { AppliedChange } from '../inventory/merged-registry.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { namesServiceAmong, ruleDependencies } from './rule-dependencies.js';

/** What working out a change asks of the inventory. */
export type InventoryReading = Pick<InventoryTurn, 'preview'>;

/** How often a change is worked out while pods and services go on changing; after that they wait for it. */
const maxTries = 3;

/**
 * Works out a change of rules, which may take many seconds, and makes it in a turn of the inventory. Pods and services change
 * meanwhile: only where that changes what the rules compile to, or where people changed workloads, it is worked out again.
 * `isHeld`: the change has a part of the inventory's own, so no other may come between. Errors: those of the callbacks.
 */
export async function workedOut<W, T>(init: {
  readonly inventory: Pick<Inventory, 'exclusively' | 'look'>;
  readonly isHeld: boolean;
  readonly work: (reading: InventoryReading) => Promise<W>;
  /** What is to come into force; null: nothing. */
  readonly release: (worked: W) => CompiledRevision | null;
  readonly make: (turn: InventoryTurn, worked: W) => Promise<T>;
}): Promise<T> {
  const { inventory, isHeld, work, release, make } = init;
  for (let triesLeft = isHeld ? 0 : maxTries; triesLeft > 0; triesLeft--) {
    using look = inventory.look();
    const worked = await work(withoutInventory);
    const made = await inventory.exclusively(async (turn) => {
      const wanted = release(worked);
      const isStale =
        wanted !== null && (look.hasDocuments || namesServiceAmong(ruleDependencies(wanted), look.published));
      return isStale ? null : { outcome: await make(turn, worked) };
    });
    if (made !== null) return made.outcome;
  }
  return inventory.exclusively(async (turn) => make(turn, await work(turn)));
}

const nothing: AppliedChange = { held: new Map(), published: new Map(), conflicts: [], undo: () => undefined };

/** For a change that has no part of the inventory. */
export const withoutInventory: InventoryReading = {
  preview: ({ upserts, removals }, inspect) => {
    if (upserts.length + removals.length === 0) return inspect(nothing);
    throw new Error('a change with a part of the inventory is worked out in a turn of it');
  },
};
