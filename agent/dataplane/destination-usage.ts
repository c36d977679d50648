import { destinationArea, maxDestinations } from './workload-usage.js';

/** What is counted of a destination, as a cell of its slot. */
const cell = { pending: 0, open: 1 } as const;
export type DestinationCount = keyof typeof cell;

const offsetBasis = 0xcb_f2_9c_e4_84_22_23_25n;
const prime = 0x1_00_00_00_01_b3n;

/**
 * Connections to each destination that has a limit, over all workers, so that the limit is the agent's and not one of each
 * thread. Lives in the shared memory of `WorkloadUsage`: counts in the row of the worker that has the connections, so those of
 * a dead worker are cleared with it. A destination gets a slot, by the hash of its name, when the first worker needs one, and
 * keeps it for the life of the process. Where there is no slot left, each worker counts its own.
 */
export class DestinationUsage {
  readonly #cells: Int32Array;
  readonly #names: BigInt64Array;
  readonly #workers: number;
  readonly #workerIndex: number;
  readonly #slots = new Map<string, number>();
  readonly #own = new Map<string, [number, number]>();

  constructor(init: { readonly buffer: SharedArrayBuffer; readonly workers: number; readonly workerIndex: number }) {
    this.#cells = new Int32Array(init.buffer);
    this.#names = new BigInt64Array(init.buffer, destinationArea.namesAt(init.workers), maxDestinations);
    this.#workers = init.workers;
    this.#workerIndex = init.workerIndex;
  }

  /** `change`: connections of this worker that began (1) or ended (-1). Returns how many all workers have then. */
  add(destination: string, what: DestinationCount, change: 1 | -1): number {
    const slot = this.#slotOf(destination);
    if (slot === null) return this.#addOwn(destination, what, change);
    Atomics.add(this.#cells, destinationArea.cell(this.#workerIndex, slot, cell[what]), change);
    let sum = 0;
    for (let worker = 0; worker < this.#workers; worker++) {
      sum += Atomics.load(this.#cells, destinationArea.cell(worker, slot, cell[what]));
    }
    return sum;
  }

  #addOwn(destination: string, what: DestinationCount, change: 1 | -1): number {
    const counts = this.#own.get(destination) ?? [0, 0];
    counts[cell[what]] += change;
    if (counts[0] === 0 && counts[1] === 0) this.#own.delete(destination);
    else this.#own.set(destination, counts);
    return counts[cell[what]];
  }

  #slotOf(destination: string): number | null {
    // A connection that began where there was no slot ends there.
    if (this.#own.has(destination)) return null;
    const known = this.#slots.get(destination);
    if (known !== undefined) return known;
    const name = hashOf(destination);
    const first = Number(BigInt.asUintN(32, name)) % maxDestinations;
    for (let step = 0; step < maxDestinations; step++) {
      const slot = (first + step) % maxDestinations;
      const present = Atomics.compareExchange(this.#names, slot, 0n, name);
      if (present !== 0n && present !== name) continue;
      this.#slots.set(destination, slot);
      return slot;
    }
    return null;
  }
}

/** FNV-1a, 64 bits: two of a few thousand names have the same one once in a million million. Never 0. */
function hashOf(text: string): bigint {
  let hash = offsetBasis;
  for (const byte of Buffer.from(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * prime);
  return BigInt.asIntN(64, hash) || 1n;
}
