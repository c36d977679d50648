import { reasonInfo } from '../../../shared/reasons.js';
import { sourceOf } from '../../../shared/source-of.js';
import type { Ending } from '../connection/ending.js';
import type { CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ApplicationSocket } from '../relay/application-socket.js';
import type { FlowContext } from './flow-context.js';

/** A client of which the connection is refused: a workload's application, or who connects to one. */
export type RefusedClient = {
  readonly socket: ApplicationSocket;
  /** Null: an inbound connection of which none was found. */
  readonly workload: HostedWorkload | null;
  readonly captured: CapturedDestination;
  readonly direction: 'outbound' | 'inbound';
};

/**
 * Answers a client with RST. Where the mesh itself says no (a rule, a limit, a wrong address) a client that comes again and
 * again gets its answers at a pace, so that it costs others little; see `SlowEnds`. All else is answered at once: a far side
 * that is not there, missing descriptors, a drain.
 */
export function refuseClient(context: FlowContext, client: RefusedClient, { reason }: Ending): void {
  const { socket, workload, captured, direction } = client;
  if (reasonInfo(reason).status === unavailable) {
    socket.reset();
    return;
  }
  context.refusals.end({
    socket,
    source: direction === 'outbound' && workload !== null ? workload.name : sourceOf(captured.client?.ip ?? ''),
    ...(workload === null ? {} : { group: workload.name }),
    end: () => socket.reset(),
  });
}

/** Of the table of reasons: the connection could not be made, and another one may be. */
const unavailable = 503;
