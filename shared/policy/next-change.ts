import { prepareSnapshot } from './prepared/prepared-snapshot.js';
import type { Snapshot } from './snapshot.js';

/**
 * The next instant after `nowMs` at which a rule begins or ends, in milliseconds since 1970; null: none. Verdicts can
 * change at that instant without a new revision.
 */
export function nextChangeMs(snapshot: Snapshot, nowMs: number): number | null {
  const { changesMs } = prepareSnapshot(snapshot);
  let [low, high] = [0, changesMs.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((changesMs[middle] ?? 0) > nowMs) high = middle;
    else low = middle + 1;
  }
  return changesMs[low] ?? null;
}
