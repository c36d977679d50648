import type { LocalWorkload } from '../messages.js';
import type { SlottedWorkload } from '../messages.js';
import { maxSlots } from '../workload-usage.js';

/** Assigns each workload a slot while it stays on the node. Freed slots are reused last. */
export class SlotTable {
  readonly #slots = new Map<string, number>();
  readonly #free: number[] = [];
  #next = 0;

  /**
   * Assigns slots to exactly these workloads and frees those of others. A new namespace under an old name is a new
   * workload.
   */
  assign(workloads: readonly LocalWorkload[]): SlottedWorkload[] {
    const keys = new Set(workloads.map(slotKey));
    for (const [key, slot] of this.#slots) {
      if (keys.has(key)) continue;
      this.#slots.delete(key);
      this.#free.push(slot);
    }
    return workloads.map((workload) => ({ ...workload, slot: this.#slotOf(slotKey(workload)) }));
  }

  #slotOf(key: string): number {
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    const slot = this.#next < maxSlots ? this.#next++ : this.#free.shift();
    if (slot === undefined) throw new RangeError(`more than ${maxSlots} workloads on one node`);
    this.#slots.set(key, slot);
    return slot;
  }
}

function slotKey(workload: LocalWorkload): string {
  return `${workload.name}@${workload.netnsInode}`;
}
