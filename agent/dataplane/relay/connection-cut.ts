import type { Reason } from '../../../shared/reasons.js';

/**
 * What to abort a connection's `AbortSignal` with, so that its record and both ends say why: a rule that now denies it,
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

/** The cut that a signal was aborted with; any other abort means that the client went away. */
export function cutOf(signal: AbortSignal): ConnectionCut {
  const reason: unknown = signal.reason;
  return reason instanceof ConnectionCut ? reason : new ConnectionCut({ reason: 'CLIENT_RESET' });
}
