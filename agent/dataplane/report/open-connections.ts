import type { HostPort, IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';

/**
 * What long-lived connections did since they were last told of, so that flow records show them before they end: added
 * up over the connections of a worker that have the same ends, port and rules. Plain data, sent between threads.
 */
export type OpenConnections = {
  readonly direction: 'outbound' | 'inbound';
  readonly source: OpenParty;
  readonly destination: OpenParty;
  readonly port: number;
  readonly rule: string;
  readonly audited: readonly string[];
  readonly revision: number;
  /** Told for the first time. */
  readonly connections: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Milliseconds since the epoch. */
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
};

/** As in `ConnectionParty`, without the port of the client. `ip` is null when a workload stands for it. */
export type OpenParty = {
  readonly workload: string | null;
  readonly identity: SpiffeId | null;
  readonly ip: IpAddress | null;
};

/** The port that rules speak of: the endpoint's, or what was dialled when no endpoint was chosen. 0: not known. */
export function ruledPort(connection: {
  readonly destination: { readonly address: HostPort | null };
  readonly requested: HostPort | null;
}): number {
  return (connection.destination.address ?? connection.requested)?.port ?? 0;
}

/** Adds up what has the same ends, port and rules. */
export function sumOpenConnections(parts: Iterable<OpenConnections>): OpenConnections[] {
  const sums = new Map<string, OpenConnections>();
  for (const part of parts) {
    const { direction, source, destination, port, rule, audited } = part;
    const key = [direction, endKey(source), endKey(destination), port, rule, ...audited].join(' ');
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
