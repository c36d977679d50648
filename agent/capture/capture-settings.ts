/** How closely the capture of each namespace is watched. All times in milliseconds. */
export type CaptureSettings = {
  /** Between two self-tests of a namespace (one dial per address family, about 1 ms of processor time). */
  readonly selfTestIntervalMs: number;
  /** The same while all is well and changes are told of. */
  readonly idleSelfTestIntervalMs: number;
  /** How long the answer to a self-test may take. */
  readonly selfTestTimeoutMs: number;
  /**
   * Between two looks at what the kernel told of changes (two system calls for each namespace): a damaged namespace is
   * compared and repaired right after. Changes of legacy iptables are not told of.
   */
  readonly pollIntervalMs: number;
  /**
   * Between two comparisons of the installed rules with what they should be (about 15 ms of processor time) where
   * changes are not told of; the shortest time between two of them in the host's own namespace.
   */
  readonly compareIntervalMs: number;
  /** The same where changes are told of: only in case that one was not. */
  readonly idleCompareIntervalMs: number;
  /** How long rules are kept for connections that are still open in a namespace that was released. */
  readonly drainTimeoutMs: number;
  /** Programs (iptables, ip) running at the same time, so that a start with many workloads does not take the host over. */
  readonly maxParallelCommands: number;
};

/**
 * What somebody does to our rules is noticed within half a second. With legacy iptables: a flush by the self-test after
 * 5 s, any other change by the comparison after 7.5 s.
 */
export const defaultCaptureSettings: CaptureSettings = {
  selfTestIntervalMs: 5000,
  idleSelfTestIntervalMs: 15_000,
  selfTestTimeoutMs: 1000,
  pollIntervalMs: 250,
  compareIntervalMs: 7500,
  idleCompareIntervalMs: 120_000,
  drainTimeoutMs: 60_000,
  maxParallelCommands: 4,
};
