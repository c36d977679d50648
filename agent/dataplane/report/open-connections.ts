import type { HostPort, IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { formatRuleRef, type RuleRef } from '../../../shared/policy/connection.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** Bytes that open connections between two workloads moved since the last report. Plain data, sent between threads. */
export type LiveBytes = {
  readonly direction: 'outbound' | 'inbound';
  readonly sourceWorkload: WorkloadName | null;
  readonly destinationWorkload: WorkloadName | null;
  readonly sent: number;
  readonly received: number;
};

/**
 * What long-lived connections did since the last report, so that flow records show them before they end: the sum over the
 * connections of a worker with the same ends, port and rules. Plain data, sent between threads.
 */
export type OpenConnections = {
  readonly direction: 'outbound' | 'inbound';
  /** A program of the host that may probe opened them; absent: none did. */
  readonly probe?: true;
  readonly source: OpenParty;
  readonly destination: OpenParty;
  readonly port: number;
  readonly rule: RuleRef | null;
  readonly audited: readonly RuleRef[];
  readonly revision: number;
  /** Connections in a report for the first time. */
  readonly connections: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Milliseconds since the epoch. */
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
};

/** A `ConnectionParty` without the client's port. `ip` is null when a workload stands for it. */
export type OpenParty = {
  readonly workload: WorkloadName | null;
  readonly identity: SpiffeId | null;
  readonly ip: IpAddress | null;
};

/** The port that rules match: the endpoint's, or the dialled one when no endpoint was chosen. 0: unknown. */
export function ruledPort(connection: {
  readonly destination: { readonly address: HostPort | null };
  readonly requested: HostPort | null;
}): number {
  return (connection.destination.address ?? connection.requested)?.port ?? 0;
}

/** Adds up connections with the same ends, port and rules. */
export function sumOpenConnections(parts: Iterable<OpenConnections>): OpenConnections[] {
  const sums = new Map<string, OpenConnections>();
  for (const part of parts) {
    const { direction, probe = false, source, destination, port, rule, audited } = part;
    const rules = [rule === null ? '' : formatRuleRef(rule), ...audited.map(formatRuleRef)];
    const key = [direction, probe, endKey(source), endKey(destination), port, ...rules].join(' ');
    const sum = sums.get(key);
    sums.set(key, sum === undefined ? part : add(sum, part));
  }
  return [...sums.values()];
}

function endKey({ workload, identity, ip }: OpenParty): string {
  return `${workload} ${identity} ${ip}`;
}

function add(a: OpenConnections, b: OpenConnections): OpenConnections {
  return {
    ...a,
    revision: Math.max(a.revision, b.revision),
    connections: a.connections + b.connections,
    bytesSent: a.bytesSent + b.bytesSent,
    bytesReceived: a.bytesReceived + b.bytesReceived,
    firstSeenMs: Math.min(a.firstSeenMs, b.firstSeenMs),
    lastSeenMs: Math.max(a.lastSeenMs, b.lastSeenMs),
  };
}
