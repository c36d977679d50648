import type { WorkloadName } from '../../../shared/routing/names.js';
import { cutWithin, type TerminationSignal } from '../connection/termination-signal.js';
import type { FlowContext } from './flow-context.js';

/** Between two looks at whether a workload of this node has become ready. */
const pollMs = 20;

/**
 * A workload of this node that has just come takes a moment until its namespace is open, its rules are loaded and its
 * certificate is here. Resolves when it is ready, is not about to be (see `Arrivals`), or the connection is cut.
 * Connections go on in the order in which they came.
 */
export async function whenArrived(
  { arrivals }: FlowContext,
  init: { readonly workload: WorkloadName; readonly signal: TerminationSignal; readonly isReady: () => boolean },
): Promise<void> {
  const { workload, signal, isReady } = init;
  if (isReady() && !arrivals.isAwaited(workload)) return;
  const untilMs = arrivals.join(workload, performance.now());
  try {
    while (signal.cut === null && performance.now() < untilMs) {
      await cutWithin(signal, pollMs);
      if (isReady()) return;
    }
  } finally {
    arrivals.leave(workload, isReady());
  }
}
