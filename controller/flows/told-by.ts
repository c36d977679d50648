import { cidrContains, ipBytes, parseCidr } from '../../shared/address.js';
import type { NodeName, WorkloadName } from '../../shared/routing/names.js';
import type { WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { outcomeOf, type FlowParty, type FlowRecord } from '../../shared/wire/flows.js';

/**
 * Marks records with {@link FlowRecord.toldBy}: of a connection that two agents see, one of them alone can invent whatever it
 * likes. `isOwn`: whether the controller knows that the node could see it. Depends only on the records and the registry as
 * it is now, so a record that comes late changes the mark of the other one.
 */
export function markTellers(
  records: readonly FlowRecord[],
  init: {
    readonly workload: (name: WorkloadName) => WorkloadEntry | undefined;
    readonly isOwn: (record: FlowRecord) => boolean;
  },
): FlowRecord[] {
  const entryOf = ({ workload }: FlowParty): WorkloadEntry | undefined =>
    workload === null ? undefined : init.workload(workload);
  const told: Record<FlowRecord['direction'], Set<string>> = { outbound: new Set(), inbound: new Set() };
  const own = records.map((record) => init.isOwn(record));
  for (const [index, record] of records.entries()) if (own[index] === true) told[record.direction].add(keyOf(record));
  return records.map((record, index): FlowRecord => {
    if (own[index] !== true) return { ...record, toldBy: 'one' };
    const { source, destination, direction } = record;
    const [from, to] = [entryOf(source), entryOf(destination)];
    if (!isSeen(source, from) || !isSeen(destination, to) || isSpared(record, from, to)) return record;
    if (agentOf(from) === record.node && agentOf(to) === record.node) return record;
    const others = told[direction === 'outbound' ? 'inbound' : 'outbound'];
    return { ...record, toldBy: others.has(keyOf(record)) ? 'both' : 'one' };
  });
}

/** The same for both ends, when they tell the same. Only the source's agent may know what the destination proved. */
function keyOf(record: FlowRecord): string {
  const { source, destination, port } = record;
  const from = `${source.workload ?? ''} ${source.identity ?? ''} ${source.cidr ?? ''}`;
  return `${from} ${destination.workload ?? ''} ${port} ${outcomeOf(record)}`;
}

/** Whether an agent sees this end: one proved it, or one captures it. */
function isSeen({ identity }: FlowParty, entry: WorkloadEntry | undefined): boolean {
  return identity !== null || agentOf(entry) !== null;
}

function agentOf(entry: WorkloadEntry | undefined): NodeName | null {
  return entry?.protocol === 'hbone' ? entry.node : null;
}

/** Whether the source's agent leaves this connection alone. Only the destination's can tell it, without a proved identity. */
function isSpared(
  { direction, source, port }: FlowRecord,
  from: WorkloadEntry | undefined,
  to: WorkloadEntry | undefined,
): boolean {
  if (direction !== 'inbound' || source.identity !== null || from === undefined) return false;
  const { excludeOutboundPorts, excludeOutboundCidrs } = from.capture;
  if (excludeOutboundPorts.includes(port)) return true;
  const spared = excludeOutboundCidrs.flatMap((text) => parseCidr(text) ?? []);
  return (to?.addresses ?? []).some((ip) => spared.some((cidr) => cidrContains(cidr, ipBytes(ip))));
}
