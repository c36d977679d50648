/** What can be suspicious about a set of rules, in the order in which it is reported. */
export const lintKinds = [
  /** An earlier rule decides everything that this one matches. */
  'shadowed',
  /** Matches something of another rule that acts otherwise; the priority decides which wins. */
  'overlap',
  'expired',
  'expires soon',
  /** `from` or `to` matches no registered workload. */
  'matches nothing',
  'empty segment',
  'unused segment',
  /** No recorded connection was decided or audited by it. */
  'never matched',
  /** Allows much more than was seen. */
  'broad',
] as const;

export type LintFinding = {
  readonly kind: (typeof lintKinds)[number];
  readonly severity: 'warning' | 'info';
  /** `SegmentationRule/db-only` or `Segment/batch`. */
  readonly resource: string;
  /** The other rule, where there is one. */
  readonly other: string | null;
  readonly message: string;
  readonly hint: string;
};
