import type { TerminationSignal } from '../connection/termination-signal.js';
import type { Awaited } from '../state/arrivals.js';
import type { FlowContext } from './flow-context.js';

/**
 * A workload of this node that has just come takes a moment until its namespace is open, its rules are loaded and its
 * certificate is here. Resolves when it is ready, is not about to be (see `Arrivals`), or the connection is cut.
 * Connections go on in the order in which they came.
 */
export async function whenArrived(
  { arrivals }: Pick<FlowContext, 'arrivals'>,
  init: { readonly workload: Awaited; readonly signal: TerminationSignal; readonly isReady: () => boolean },
): Promise<void> {
  const { workload, signal, isReady } = init;
  if (isReady() && !arrivals.isAwaited(workload)) {
    arrivals.wasReady(workload);
    return;
  }
  if (signal.cut !== null) return;
  await new Promise<void>((resolve) => {
    const goOn = (): void => {
      signal.offCut(onCut);
      resolve();
    };
    const waiter = { isReady, goOn };
    const onCut = (): void => {
      arrivals.leave(workload, waiter);
      resolve();
    };
    signal.onCut(onCut);
    if (!arrivals.join(workload, waiter)) goOn();
  });
}
