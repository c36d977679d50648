import { ConnectionRecord } from '../connection/connection-record.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { CapturePortName } from '../listen/workload-listeners.js';
import { connectFailure } from './connect-failure.js';
import type { FlowContext } from './flow-context.js';

/**
 * A connection that the kernel had accepted but the agent could not take, such as `ENOMEM`. The client sees it closed; the
 * record says why.
 */
export function recordAcceptFailure(
  context: FlowContext,
  workload: HostedWorkload,
  port: CapturePortName,
  error: Error,
): void {
  const direction = port === 'outbound' ? 'outbound' : 'inbound';
  const record = new ConnectionRecord({ direction });
  const end = { address: null, workload: workload.name, identity: null };
  if (direction === 'outbound') record.source = end;
  else record.destination = end;
  const { reason, detail } = connectFailure(error, `accepting on the ${port} port of ${workload.name}`);
  context.reporter.closed(record, { reason, detail });
}
