/** How closely the capture of each namespace is monitored. All times are in milliseconds. */
export type CaptureSettings = {
  /** Between two self-tests of a namespace (one dial per address family, about 1 ms of CPU time). */
  readonly selfTestIntervalMs: number;
  /** The same while the capture is healthy and the kernel reports changes. */
  readonly idleSelfTestIntervalMs: number;
  /** How long the answer to a self-test may take. */
  readonly selfTestTimeoutMs: number;
  /**
   * Between two polls for changes that the kernel reports (two system calls per namespace). A changed namespace is
   * compared and repaired right after. The kernel does not report changes of legacy iptables.
   */
  readonly pollIntervalMs: number;
  /**
   * Between two comparisons of the installed rules with the expected ones (about 15 ms of CPU time) where the kernel
   * reports no changes. In the host's own namespace it is the shortest time between two comparisons.
   */
  readonly compareIntervalMs: number;
  /** The same where the kernel reports changes, in case a report was missed. */
  readonly idleCompareIntervalMs: number;
  /** How long rules are kept for open connections in a namespace that was released. */
  readonly drainTimeoutMs: number;
  /**
   * How many programs (iptables, ip) run at the same time, so that starting with many workloads does not overload the
   * host.
   */
  readonly maxParallelCommands: number;
};

/**
 * Foreign changes to our rules are noticed within half a second. With legacy iptables a flush is noticed by the
 * self-test after 5 s, any other change by the comparison after 7.5 s.
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
