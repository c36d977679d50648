import { longestWarmupMs, warmShare, type WarmupPolicy } from '../../../shared/policy/warmup.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName, type WorkloadName } from '../../../shared/routing/names.js';
import type { NewlyReady } from '../image/registry-image.js';

/** Workloads that have been ready for longer are dropped when there are this many, and twice as many as were left then. */
const fewestToPrune = 1024;

/** Which endpoints became ready a short time ago, and what share of connections they get for it. */
export class EndpointWarmth {
  readonly #readyAtMs = new Map<WorkloadName, number>();
  /** When the last one of a list became ready, so that a list in which all are warm costs one look. Dropped with each change. */
  #lastReadyMs = new WeakMap<readonly Endpoint[], number>();
  #pruneAt = fewestToPrune;
  readonly #nowMs: () => number;

  /** `nowMs`: of a clock that never goes back. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Number of workloads of which something is known. */
  get size(): number {
    return this.#readyAtMs.size;
  }

  note(ready: readonly NewlyReady[]): void {
    if (ready.length === 0) return;
    const nowMs = this.#nowMs();
    for (const { workload, agoMs } of ready) this.#readyAtMs.set(workload, nowMs - agoMs);
    if (this.#readyAtMs.size >= this.#pruneAt) {
      for (const [workload, atMs] of this.#readyAtMs) {
        if (nowMs - atMs >= longestWarmupMs) this.#readyAtMs.delete(workload);
      }
      this.#pruneAt = Math.max(fewestToPrune, 2 * this.#readyAtMs.size);
    }
    this.#lastReadyMs = new WeakMap();
  }

  /** Whether an endpoint of the list is not warm yet. */
  isAnyCool(endpoints: readonly Endpoint[], { durationMs }: WarmupPolicy): boolean {
    if (this.#readyAtMs.size === 0) return false;
    let last = this.#lastReadyMs.get(endpoints);
    if (last === undefined) {
      last = endpoints.reduce(
        (latest, endpoint) => Math.max(latest, this.#readyAt(endpoint)),
        Number.NEGATIVE_INFINITY,
      );
      this.#lastReadyMs.set(endpoints, last);
    }
    return this.#nowMs() - last < durationMs;
  }

  /** From 0 to 1, of the share of a warm endpoint. What is outside the mesh is always warm. */
  shareOf(endpoint: Endpoint, policy: WarmupPolicy): number {
    return warmShare(policy, this.#nowMs() - this.#readyAt(endpoint));
  }

  #readyAt({ workload }: Endpoint): number {
    if (workload === null) return Number.NEGATIVE_INFINITY;
    return this.#readyAtMs.get(workloadName(workload)) ?? Number.NEGATIVE_INFINITY;
  }
}
