import { registryKey, type RegistryEntry, type WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { workloadName, type WorkloadName } from '../../../shared/routing/names.js';
import { longestWarmupMs } from '../../../shared/policy/warmup.js';
import type { NewlyReady } from '../image/registry-image.js';

/**
 * When workloads became ready, as the control thread learnt it, for {@link longestWarmupMs}. A workload that was in the first
 * registry of the agent has been ready before, whatever it was. Holds at most one entry for each workload of the registry.
 */
export class ReadyTimes {
  readonly #sinceMs = new Map<string, { readonly workload: WorkloadName; readonly atMs: number }>();
  readonly #nowMs: () => number;

  /** `nowMs`: of a clock that never goes back. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Of entries that replace others (`before`, by key); returns those that became ready. */
  note(before: ReadonlyMap<string, RegistryEntry>, upserts: readonly RegistryEntry[]): readonly NewlyReady[] {
    const found: NewlyReady[] = [];
    for (const entry of upserts) {
      if (entry.kind !== 'workload') continue;
      const key = registryKey(entry);
      if (entry.availability !== undefined) {
        this.#sinceMs.delete(key);
        continue;
      }
      if (isStillReady(before.get(key), entry)) continue;
      const workload = workloadName(entry);
      this.#sinceMs.set(key, { workload, atMs: this.#nowMs() });
      found.push({ workload, agoMs: 0 });
    }
    return found;
  }

  /** The workload is gone. */
  forget(key: string): void {
    this.#sinceMs.delete(key);
  }

  /** All that became ready within {@link longestWarmupMs}, for a thread that starts. */
  all(): readonly NewlyReady[] {
    const nowMs = this.#nowMs();
    for (const [key, { atMs }] of this.#sinceMs) if (nowMs - atMs >= longestWarmupMs) this.#sinceMs.delete(key);
    return Array.from(this.#sinceMs.values(), ({ workload, atMs }) => ({ workload, agoMs: nowMs - atMs }));
  }
}

/** Whether the workload was ready before, and is not another one with its name. */
function isStillReady(before: RegistryEntry | undefined, { node, netns, addresses }: WorkloadEntry): boolean {
  if (before?.kind !== 'workload' || before.availability !== undefined) return false;
  return before.node === node && before.netns === netns && before.addresses.some((ip) => addresses.includes(ip));
}
