import type { WorkloadUsage } from '../workload-usage.js';

/** Limits of one workload, and of all, over all workers. */
export type LimitSettings = {
  readonly maxConnectionsPerWorkload: number;
  /** Bytes received from one side of a connection that the other side has not taken yet. */
  readonly maxWaitingBytesPerWorkload: number;
  /** Of all workloads together. */
  readonly maxWaitingBytes: number;
};

/** Counts this worker's connections of each workload, and compares what all workers counted with the limits. */
export class WorkloadLimits {
  readonly #settings: LimitSettings;
  readonly #usage: WorkloadUsage;
  readonly #workerIndex: number;

  constructor(init: { readonly settings: LimitSettings; readonly usage: WorkloadUsage; readonly workerIndex: number }) {
    this.#settings = init.settings;
    this.#usage = init.usage;
    this.#workerIndex = init.workerIndex;
  }

  /** `change`: connections that began (1) or ended (-1). */
  count({ slot }: { readonly slot: number }, change: 1 | -1): void {
    this.#usage.addConnections(this.#workerIndex, slot, change);
  }

  /** The limit that the workload exceeds, its present connections included; null when it exceeds none. */
  exceeded({ name, slot }: { readonly name: string; readonly slot: number }): string | null {
    const { maxConnectionsPerWorkload, maxWaitingBytesPerWorkload, maxWaitingBytes } = this.#settings;
    if (this.#usage.connections(slot) > maxConnectionsPerWorkload) {
      return `limit ${maxConnectionsPerWorkload} of ${name}`;
    }
    const waitingBytes = this.#usage.waitingBytes(slot);
    if (waitingBytes > maxWaitingBytesPerWorkload) {
      return `${waitingBytes} bytes wait in the connections of ${name}, limit ${maxWaitingBytesPerWorkload}`;
    }
    if (waitingBytes === 0) return null;
    const all = this.#usage.waitingInAll();
    // Those that have less than an equal part go on: one workload does not use up what is others'.
    if (all.bytes <= maxWaitingBytes || waitingBytes <= maxWaitingBytes / Math.max(1, all.slots)) return null;
    return `${all.bytes} bytes wait in the connections of all workloads, limit ${maxWaitingBytes}, ${waitingBytes} of them in those of ${name}`;
  }
}
