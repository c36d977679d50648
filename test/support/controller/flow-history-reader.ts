import { FlowHistory, type FlowBatchOutcome } from '../../../controller/flows/flow-history.js';
import type { Bus } from '../../../shared/bus/bus.js';
import type { ReportedFlow } from '../../../shared/wire/flows.js';
import { eventually, silentLog } from './controller-fixture.js';

/** A reader of the flow records as the controller has it. Disposing it ends the reading. */
export function historyOn(
  bus: Bus,
  o: { readonly maxBytes?: number; readonly isOwn?: (node: string, flow: ReportedFlow) => boolean } = {},
) {
  const outcomes: FlowBatchOutcome[] = [];
  const history = new FlowHistory({
    retentionMs: 14 * 86_400_000,
    maxBytes: o.maxBytes ?? 64 * 1024 * 1024,
    isOwn: o.isOwn ?? (() => true),
    nowMs: Date.now,
    log: silentLog,
    onBatch: (outcome) => outcomes.push(outcome),
  });
  const abort = new AbortController();
  const done = history.follow(bus, abort.signal);
  return {
    history,
    outcomes,
    current: () => eventually('the stream is read', async () => (history.isCurrent ? true : undefined)),
    [Symbol.asyncDispose]: async () => {
      abort.abort();
      await done;
    },
  };
}
