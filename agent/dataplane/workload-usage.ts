/** Maximum number of workloads that one agent manages at once. The kernel's limit of namespaces is far higher. */
export const maxSlots = 4096;

/** The cells of one slot in a row. */
const cell = { connections: 0, waitingKibibytes: 1, isServed: 2 } as const;
const cellsPerSlot = 3;
/** Destinations whose connections are counted; see `DestinationUsage`. */
export const maxDestinations = 4096;
const cellsPerDestination = 2;
/** After the slots: what waits in all of them. */
const inAll = { waitingKibibytes: maxSlots * cellsPerSlot, waitingSlots: maxSlots * cellsPerSlot + 1 } as const;
const destinationsAt = maxSlots * cellsPerSlot + Object.keys(inAll).length;
const rowCells = destinationsAt + maxDestinations * cellsPerDestination;

/**
 * After the rows: names, when the budget of each destination is whole again, which client gave the name, two totals of each
 * destination, and who gives a slot another name (a worker's index and 1; 0: none does).
 */
const namesBytes = maxDestinations * BigInt64Array.BYTES_PER_ELEMENT;
const dueBytes = namesBytes;
const ownersBytes = namesBytes;
const totalCells = maxDestinations * cellsPerDestination;

/** Where the same memory counts connections by destination: in the row of each worker, and names and totals after the rows. */
export const destinationArea = {
  /** Index of a cell. */
  cell: (workerIndex: number, slot: number, which: 0 | 1): number =>
    workerIndex * rowCells + destinationsAt + slot * cellsPerDestination + which,
  /** In bytes, a multiple of eight. */
  namesAt: (workers: number): number => workers * rowCells * Int32Array.BYTES_PER_ELEMENT,
  dueAt: (workers: number): number => destinationArea.namesAt(workers) + namesBytes,
  ownersAt: (workers: number): number => destinationArea.dueAt(workers) + dueBytes,
  totals: (buffer: SharedArrayBuffer, workers: number): Int32Array =>
    new Int32Array(buffer, destinationArea.ownersAt(workers) + ownersBytes, totalCells + 1),
  /** Index in the totals. */
  total: (slot: number, which: 0 | 1): number => slot * cellsPerDestination + which,
  gate: totalCells,
};

/**
 * What each workload uses across all workers, so that its limits apply to the workload and not to each thread: open
 * connections, and bytes that wait in them. Lives in shared memory: one row per worker, written only by that worker, so
 * the row of a dead worker can be cleared without touching the others. If workers check at the same instant, the
 * connection limit can be exceeded by the number of workers.
 */
export class WorkloadUsage {
  readonly #cells: Int32Array;
  readonly #totals: Int32Array;
  readonly #workers: number;

  constructor(init: { readonly buffer: SharedArrayBuffer; readonly workers: number }) {
    this.#cells = new Int32Array(init.buffer);
    this.#totals = destinationArea.totals(init.buffer, init.workers);
    this.#workers = init.workers;
  }

  static allocate(workers: number): SharedArrayBuffer {
    const totalsBytes = (totalCells + 1) * Int32Array.BYTES_PER_ELEMENT;
    return new SharedArrayBuffer(destinationArea.ownersAt(workers) + ownersBytes + totalsBytes);
  }

  addConnections(workerIndex: number, slot: number, delta: 1 | -1): void {
    Atomics.add(this.#cells, indexOf(workerIndex, slot, cell.connections), delta);
  }

  connections(slot: number): number {
    return this.#sum(slot, cell.connections);
  }

  /** Of one worker. */
  connectionsAt(workerIndex: number, slot: number): number {
    return Atomics.load(this.#cells, indexOf(workerIndex, slot, cell.connections));
  }

  setWaitingBytes(workerIndex: number, slot: number, bytes: number): void {
    Atomics.store(this.#cells, indexOf(workerIndex, slot, cell.waitingKibibytes), Math.ceil(bytes / 1024));
  }

  /** The workers' last values, each rounded up to KiB. */
  waitingBytes(slot: number): number {
    return this.#sum(slot, cell.waitingKibibytes) * 1024;
  }

  /** Of a worker: bytes of all workloads, and how many workloads have some. */
  setWaitingInAll(workerIndex: number, { bytes, slots }: { readonly bytes: number; readonly slots: number }): void {
    const row = workerIndex * rowCells;
    Atomics.store(this.#cells, row + inAll.waitingKibibytes, Math.ceil(bytes / 1024));
    Atomics.store(this.#cells, row + inAll.waitingSlots, slots);
  }

  /** The workers' last values. A workload counts once for each worker that has bytes of it. */
  waitingInAll(): { readonly bytes: number; readonly slots: number } {
    let [kibibytes, slots] = [0, 0];
    for (let row = 0; row < this.#workers * rowCells; row += rowCells) {
      kibibytes += Atomics.load(this.#cells, row + inAll.waitingKibibytes);
      slots += Atomics.load(this.#cells, row + inAll.waitingSlots);
    }
    return { bytes: kibibytes * 1024, slots };
  }

  setServed(workerIndex: number, slot: number, isServed: boolean): void {
    Atomics.store(this.#cells, indexOf(workerIndex, slot, cell.isServed), isServed ? 1 : 0);
  }

  /** Whether the worker has the namespace and the listeners of the workload in the slot, so that it may get its connections. */
  isServed(workerIndex: number, slot: number): boolean {
    return Atomics.load(this.#cells, indexOf(workerIndex, slot, cell.isServed)) === 1;
  }

  /** The worker is dead: what it had does not count any more. */
  clearWorker(workerIndex: number): void {
    for (let slot = 0; slot < maxDestinations; slot++) {
      for (const which of [0, 1] as const) {
        const had = Atomics.load(this.#cells, destinationArea.cell(workerIndex, slot, which));
        if (had !== 0) Atomics.sub(this.#totals, destinationArea.total(slot, which), had);
      }
    }
    this.#endRenaming(workerIndex);
    this.#cells.fill(0, workerIndex * rowCells, (workerIndex + 1) * rowCells);
  }

  /** It died while it gave a slot another name, which it may have closed: nothing is counted there. */
  #endRenaming(workerIndex: number): void {
    if (Atomics.load(this.#totals, destinationArea.gate) !== workerIndex + 1) return;
    for (let total = 0; total < totalCells; total++) {
      if (Atomics.load(this.#totals, total) < 0) Atomics.store(this.#totals, total, 0);
    }
    Atomics.store(this.#totals, destinationArea.gate, 0);
    Atomics.notify(this.#totals, destinationArea.gate);
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
