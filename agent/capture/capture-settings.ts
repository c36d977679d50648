/** How closely the capture of each namespace is watched. All times in milliseconds. */
export type CaptureSettings = {
  /** Between two self-tests of a namespace (one dial per address family, about 0.2 ms). */
  readonly selfTestIntervalMs: number;
  /** How long the answer to a self-test may take. */
  readonly selfTestTimeoutMs: number;
  /** Between two comparisons of the installed rules with what they should be (about 15 ms of processor time). */
  readonly compareIntervalMs: number;
  /** How long rules are kept for connections that are still open in a namespace that was released. */
  readonly drainTimeoutMs: number;
  /** Programs (iptables, ip) running at the same time, so that a start with many workloads does not take the host over. */
  readonly maxParallelCommands: number;
};

/** A flush is noticed by the self-test after 2 s, any other change by the comparison after 7.5 s. */
export const defaultCaptureSettings: CaptureSettings = {
  selfTestIntervalMs: 2000,
  selfTestTimeoutMs: 1000,
  compareIntervalMs: 7500,
  drainTimeoutMs: 60_000,
  maxParallelCommands: 4,
};
