/** Most workloads that one agent looks after at once; the kernel's limit of namespaces is far above. */
export const maxSlots = 4096;

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
