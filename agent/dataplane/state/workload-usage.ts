import type { LocalWorkload } from '../messages.js';

/** Most workloads that one agent looks after at once; the kernel's limit of namespaces is far above. */
const maxSlots = 4096;

/** A workload with its place in {@link WorkloadUsage}, as the pool hands it to the workers. */
export type SlottedWorkload = LocalWorkload & { readonly slot: number };

/** Of a slot, in one row. */
const cell = { connections: 0, waitingKibibytes: 1 } as const;
const cellsPerSlot = 2;
const rowCells = maxSlots * cellsPerSlot;

/**
 * What each workload uses over all workers, so that its limits hold for the workload and not for each thread: open
 * connections, and bytes that wait in them. Shared memory: one row a worker, which only that worker writes, so a row of
 * a dead worker can be cleared without touching the others. The limit of connections can be passed by as many as there
 * are workers, when they look at the same instant.
 */
export class WorkloadUsage {
  readonly #cells: Int32Array;
  readonly #workers: number;

  constructor(init: { readonly buffer: SharedArrayBuffer; readonly workers: number }) {
    this.#cells = new Int32Array(init.buffer);
    this.#workers = init.workers;
  }

  static allocate(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer(workers * rowCells * Int32Array.BYTES_PER_ELEMENT);
  }

  addConnections(workerIndex: number, slot: number, delta: 1 | -1): void {
    Atomics.add(this.#cells, indexOf(workerIndex, slot, cell.connections), delta);
  }

  connections(slot: number): number {
    return this.#sum(slot, cell.connections);
  }

  setWaitingBytes(workerIndex: number, slot: number, bytes: number): void {
    Atomics.store(this.#cells, indexOf(workerIndex, slot, cell.waitingKibibytes), Math.ceil(bytes / 1024));
  }

  /** As the workers saw it last, each rounded up to KiB. */
  waitingBytes(slot: number): number {
    return this.#sum(slot, cell.waitingKibibytes) * 1024;
  }

  clearWorker(workerIndex: number): void {
    this.#cells.fill(0, workerIndex * rowCells, (workerIndex + 1) * rowCells);
  }

  #sum(slot: number, which: number): number {
    let sum = 0;
    for (let worker = 0; worker < this.#workers; worker++) {
      sum += Atomics.load(this.#cells, indexOf(worker, slot, which));
    }
    return sum;
  }
}

function indexOf(workerIndex: number, slot: number, which: number): number {
  return workerIndex * rowCells + slot * cellsPerSlot + which;
}

/** Gives each workload a slot for as long as it stays on the node. Freed slots are reused last. */
export class SlotTable {
  readonly #slots = new Map<string, number>();
  readonly #free: number[] = [];
  #next = 0;

  /** Slots for exactly these workloads; those of others are freed. A new namespace under an old name is a new workload. */
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
