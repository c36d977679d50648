/** Kinds of findings, in the order in which they are reported. */
export const lintKinds = [
  /** An earlier rule decides everything that this rule matches. */
  'shadowed',
  /** Overlaps with a rule of another action; the priority decides which wins. */
  'overlap',
  'expired',
  'expires soon',
  /** `from` or `to` matches no registered workload, or a RateLimit no client or port. */
  'matches nothing',
  'empty segment',
  'unused segment',
  /** A fault of a VirtualService that is made until the document changes. */
  'endless fault',
  /** A workload without an agent, which rules allow only by an identity. */
  'no identity',
  /** A DestinationRule, VirtualService, TCPRoute or RateLimit for a service that is not registered. */
  'unknown host',
  /** A subset of a DestinationRule without a workload. */
  'empty subset',
  /** A warm-up for a service whose clients stay with their workload. */
  'warmup without effect',
  /** An earlier route takes all that this one matches. */
  'unreachable route',
  /** A route leads to a service that is not there, or that it may not name. */
  'invalid backend',
  /** Weights of a route that do not add up to 100. */
  'uneven weights',
  /** Decided or audited no recorded connection. */
  'never matched',
  /** Allows much more than was recorded. */
  'broad',
] as const;

export type LintFinding = {
  readonly kind: (typeof lintKinds)[number];
  readonly severity: 'warning' | 'info';
  /** `SegmentationRule/db-only` or `Segment/batch`. */
  readonly resource: string;
  /** The other rule involved, if any. */
  readonly other: string | null;
  readonly message: string;
  readonly hint: string;
};
