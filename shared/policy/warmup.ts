/** Agents keep for this long when a workload became ready: no warm-up is longer. */
export const longestWarmupMs = 3_600_000;

/** A workload that became ready gets a share that grows to that of the others. */
export type WarmupPolicy = {
  /** At least 1, at most {@link longestWarmupMs}. */
  readonly durationMs: number;
  /** From 0 to 100: of the whole share, in the beginning. */
  readonly minPercent: number;
  /** At least 1: the share is the part of the time that is over, to the power of 1 / aggression. */
  readonly aggression: number;
};

/**
 * Of its whole share, how much a workload gets that has been ready for `ageMs`: from 0 to 1. Source: Istio's reference,
 * Networking / Destination Rule, WarmupConfiguration.
 */
export function warmShare({ durationMs, minPercent, aggression }: WarmupPolicy, ageMs: number): number {
  if (ageMs >= durationMs) return 1;
  const over = Math.max(0, ageMs) / durationMs;
  return Math.max(minPercent / 100, aggression === 1 ? over : over ** (1 / aggression));
}
