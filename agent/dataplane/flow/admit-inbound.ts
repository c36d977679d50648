import type { HostPort } from '../../../shared/address.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { Ending } from '../connection/connection-record.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { FlowContext } from './flow-context.js';
import type { TrackedConnection } from './tracked-connection.js';

/**
 * The workload that a connection into this node is for, as the registry has it, or why it may not go on: the workload
 * is above one of its limits, or is not registered (any more). Completes the record's destination.
 */
export function admitInbound(inbound: {
  readonly context: FlowContext;
  readonly workload: HostedWorkload;
  readonly address: HostPort;
  readonly connection: TrackedConnection;
}): { readonly ok: true; readonly destination: WorkloadEntry } | { readonly ok: false; readonly ending: Ending } {
  const { context, workload, address, connection } = inbound;
  const limit = context.connections.limitPassed(workload);
  if (limit !== null) return { ok: false, ending: { reason: 'CONN_LIMIT', detail: limit } };
  const destination = context.state.registry.workload(workload.name);
  if (destination === undefined) {
    return { ok: false, ending: { reason: 'NO_RULES_YET', detail: `${workload.name} is not registered` } };
  }
  connection.record.destination = { address, workload: workload.name, identity: destination.identity };
  return { ok: true, destination };
}
