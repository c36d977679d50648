import type { DrawnFaults } from '../../../shared/routing/faults.js';
import { cutWithin } from '../connection/termination-signal.js';
import { refused, refusedByUs, type Refused } from '../connection/ending.js';
import { OwnRate } from '../limit/own-rate.js';
import type { TrackedConnection } from './tracked-connection.js';

/**
 * What a VirtualService has done on purpose to a connection that the rules allow: it waits, and is refused or bounded.
 * Null: it goes on, and may have to be decided about again. While it waits, a change of the rules cuts it as if it were
 * open. `untilMs`: of `performance.now()`, the time for all of connecting; null: without limit.
 */
export async function injectFaults(
  connection: TrackedConnection,
  { delayMs, isAborted, bytesPerSecond }: DrawnFaults,
  untilMs: number | null,
): Promise<Refused | null> {
  const { record, signal } = connection;
  const of = record.route?.route ?? '';
  if (delayMs > 0) {
    record.faulted('delay');
    const leftMs = untilMs === null ? Number.POSITIVE_INFINITY : Math.max(0, untilMs - performance.now());
    await cutWithin(signal, Math.min(delayMs, leftMs));
    const { cut } = signal;
    if (cut !== null) return refused(cut.reason, cut.detail, cut.rule);
    if (leftMs <= delayMs) return refusedByUs('CONNECT_TIMEOUT', `fault.delay of ${of} is longer than its timeout`);
  }
  if (isAborted) {
    record.faulted('abort');
    return refusedByUs('FAULT_INJECTED', `fault.abort of ${of}`);
  }
  if (bytesPerSecond === null) return null;
  record.faulted('throttle');
  const rate = (): OwnRate => new OwnRate({ bytesPerSecond, nowNs: () => process.hrtime.bigint() });
  connection.slowDown({ source: rate(), destination: rate() });
  return null;
}
