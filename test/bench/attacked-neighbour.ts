import { fileURLToPath } from 'node:url';
import type { LabNode } from '../lab/lab-node.js';
import type { LabProcess } from '../lab/lab-process.js';
import { waitUntil } from '../lab/wait-until.js';
import { Quantiles } from './quantiles.js';

/** What a client met that has nothing to do with the attack, microseconds. */
export type Met = { readonly exchangesUs: readonly number[]; readonly opensUs: readonly number[] };

/** See `load/neighbour.ts`. */
export type NeighbourProtocol = 'echo' | 'http' | 'https';

type Batch = Met & { readonly startedAtMs: number };

/** Exchanges of a batch, and a quarter as many new connections. */
const batchSize = 20;

/** A program in a workload that asks a server all the time; see `load/neighbour.ts`. */
export class AttackedNeighbour implements AsyncDisposable {
  readonly #process: LabProcess;

  private constructor(process: LabProcess) {
    this.#process = process;
  }

  /** Resolves when it has met `warmUp` exchanges, so that the code of the agents is compiled. */
  static async start(init: {
    readonly at: LabNode;
    readonly protocol: NeighbourProtocol;
    readonly server: { readonly ip: string; readonly port: number };
    readonly warmUp: number;
  }): Promise<AttackedNeighbour> {
    const { at, protocol, server, warmUp } = init;
    const file = fileURLToPath(new URL('load/neighbour.js', import.meta.url));
    const argv = [process.execPath, file, protocol, server.ip, String(server.port), String(batchSize)];
    const started = new AttackedNeighbour(await at.spawn(argv));
    await started.meet(warmUp);
    return started;
  }

  /** What it meets from now on, until it has met this number of exchanges. Rejects when it has not after `deadlineMs`. */
  async meet(exchanges: number, deadlineMs = 60_000): Promise<Met> {
    const fromMs = Number(process.hrtime.bigint() / 1_000_000n);
    const batches = await waitUntil(
      `${exchanges} exchanges of the neighbour`,
      () => {
        this.#process.requireRunning();
        const met = this.#since(fromMs);
        return met.length * batchSize >= exchanges ? met : undefined;
      },
      deadlineMs,
    );
    return {
      exchangesUs: batches.flatMap(({ exchangesUs }) => exchangesUs),
      opensUs: batches.flatMap(({ opensUs }) => opensUs),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop('SIGKILL');
  }

  #since(fromMs: number): Batch[] {
    const found: Batch[] = [];
    for (const line of this.#process.lines.toReversed()) {
      const [, json] = /^report (\{.*\})$/.exec(line) ?? [];
      if (json === undefined) continue;
      const batch = JSON.parse(json) as Batch;
      if (batch.startedAtMs < fromMs) break;
      found.push(batch);
    }
    return found;
  }
}

/** Microseconds. */
export function quantileUs(values: readonly number[], share: number): number {
  return new Quantiles({ values: Float64Array.from(values) }).at(share);
}

/** Of all phases together, microseconds. */
export function medianUs(met: readonly Met[], what: keyof Met): number {
  return quantileUs(
    met.flatMap((phase) => phase[what]),
    0.5,
  );
}
