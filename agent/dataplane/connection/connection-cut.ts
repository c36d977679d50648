import type { Reason } from '../../../shared/reasons.js';

/**
 * What a connection's `TerminationSignal` is raised with, so that its record and both ends say why: a rule that now denies it,
 * a workload that left, a drain. Not a failure, only carried as one.
 */
export class ConnectionCut extends Error {
  readonly reason: Reason;
  /** `SegmentationRule/name`, or empty. */
  readonly rule: string;

  constructor(init: { reason: Reason; rule?: string; detail?: string }) {
    super(init.detail ?? '');
    this.name = 'ConnectionCut';
    this.reason = init.reason;
    this.rule = init.rule ?? '';
  }
}
