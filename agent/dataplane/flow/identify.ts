import type { HostPort, IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { refused, type Refused } from '../connection/ending.js';
import { isOwnPort, type CapturedDestination, type UnreadableDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ApplicationSocket } from '../relay/application-socket.js';
import type { OriginalDestination, PeerAddress } from '../sockets/socket-addresses.js';
import type { FlowContext } from './flow-context.js';
import type { TrackedConnection } from './tracked-connection.js';

/** A connection as an entry hands it over: captured, and nothing checked yet. */
export type Arrival = {
  readonly context: FlowContext;
  readonly connection: TrackedConnection;
  /** The workload of this node whose listener took it. Outbound it is the source, inbound the destination. */
  readonly workload: HostedWorkload;
  readonly captured: CapturedDestination;
  /** Null for a stream of a tunnel, which has no file descriptor of its own. */
  readonly socket: ApplicationSocket | null;
  /** Proved by the client's certificate; null when it proved none. */
  readonly peerIdentity: SpiffeId | null;
  /** The limit that the peer exceeds; absent: it has none, or exceeds none. */
  readonly peerLimit?: string | null;
  /** What the record shows as the client in place of the kernel's answer, which for a tunnel is the tunnel's own port. */
  readonly shownClient?: HostPort;
};

/** An arrival on a socket, and not on a stream. */
export type SocketArrival = Arrival & { readonly socket: ApplicationSocket };

/** It is known who dialled what, and this node may speak for its workload. */
export type Identified = {
  readonly ok: true;
  readonly dialled: OriginalDestination;
  readonly client: PeerAddress;
  /** The workload of this node, as the registry has it now. */
  readonly entry: WorkloadEntry;
};

/**
 * The first step of every connection. The three entries make the same checks, in this order:
 *
 * 1. the workload is still on this node;
 * 2. the original destination and the client can be read;
 * 3. the destination is neither a port of the agent nor the loopback interface of the workload;
 * 4. a file descriptor is left;
 * 5. the workload is within its limits, and so is its peer;
 * 6. the workload is registered;
 * 7. its side of the connection has one of its registered addresses, and the other side has none of them;
 * 8. rules and a valid certificate are here.
 *
 * Fills in both parties of the record with what is known at each point.
 */
export function identify(arrival: Arrival): Identified | Refused {
  const { context, connection, workload, captured, socket } = arrival;
  const isOutbound = connection.record.direction === 'outbound';
  noteParties(arrival);
  if (!workload.isOpen) return refused('DRAIN', `${workload.name} left this node`);
  if (captured.kind === 'unreadable') return unreadable(captured);
  const { dialled, client } = captured;
  // Outbound, a port of the agent matters only at an endpoint that has an agent: other hosts may serve on it.
  if (captured.kind === 'direct' || (!isOutbound && isOwnPort(dialled.port))) {
    return refused('LOOP_DETECTED', `port ${dialled.port}`);
  }
  if (isLoopback(dialled.ip)) {
    return refused('HOST_UNREACHABLE', `${dialled.ip} is loopback of ${workload.name}, which only it can reach`);
  }
  if (socket !== null && context.descriptors.isTouchedByNumbered(socket)) return refused('RESOURCE_FD', 'accept');
  const limit = context.connections.limitPassed(workload) ?? arrival.peerLimit ?? null;
  if (limit !== null) return refused('CONN_LIMIT', limit);
  const entry = context.state.registry.workload(workload.name);
  if (entry === undefined) return unregistered(arrival);
  const foreign = foreignAddress(arrival, captured, entry);
  if (foreign !== null) return refused('NOT_OWN_ADDRESS', foreign);
  const own = { address: isOutbound ? client : dialled, workload: workload.name, identity: entry.identity };
  if (isOutbound) connection.record.source = own;
  else connection.record.destination = own;
  return context.state.notReadyReason(entry, context.clock.nowMs()) ?? { ok: true, dialled, client, entry };
}

/** What is known before the registry is asked. */
function noteParties({ connection, workload, captured, peerIdentity, shownClient }: Arrival): void {
  const { record } = connection;
  const { dialled, client } = captured;
  const isOutbound = record.direction === 'outbound';
  record.requested = dialled;
  record.source = {
    address: shownClient ?? client,
    workload: isOutbound ? workload.name : null,
    identity: peerIdentity,
  };
  record.destination = { address: dialled, workload: isOutbound ? null : workload.name, identity: null };
}

/** A client that leaves before it is accepted is no fault of the mesh. */
export function unreadable({ hasLeft, detail }: UnreadableDestination): Refused {
  if (hasLeft) return refused('CLIENT_RESET', 'closed before it was accepted');
  return refused('DESTINATION_UNREADABLE', detail);
}

function unregistered({ context, connection, workload }: Arrival): Refused {
  if (!context.state.registry.isFilled) return refused('NO_RULES_YET', 'no registry yet');
  if (context.state.registry.isUnreadable(workload.name)) {
    const detail = `this agent cannot read the registry entry of ${workload.name}: upgrade the agent`;
    return refused('REGISTRY_UNREADABLE', detail);
  }
  const detail = `${workload.name} is not registered`;
  return refused(connection.record.direction === 'outbound' ? 'SOURCE_UNKNOWN' : 'NO_RULES_YET', detail);
}

/**
 * Why an address cannot be what it claims to be; null: nothing is wrong. Both addresses are handed to a dial, and an
 * application trusts some of them: a client that bound `::1` would be taken for the application's own host, and a packet
 * for `::`, sent by a neighbour on the link, would be relayed to what the application serves to itself alone.
 */
function foreignAddress(
  { connection, workload, socket }: Arrival,
  { kind, dialled, client }: Exclude<CapturedDestination, UnreadableDestination>,
  { addresses }: WorkloadEntry,
): string | null {
  if (kind === 'mapped') return `${dialled.ip} came in an IPv6 packet, as an IPv4-mapped address`;
  const isOutbound = connection.record.direction === 'outbound';
  const own = isOutbound ? client.ip : dialled.ip;
  if (!addresses.includes(own)) return `${own} is no registered address of ${workload.name}`;
  // What a workload sends to itself does not leave it, so it is never captured on its way in.
  if (!isOutbound && socket !== null && (isLoopback(client.ip) || addresses.includes(client.ip))) {
    return `${client.ip} is an address of ${workload.name} itself, and came from outside`;
  }
  return null;
}

/**
 * The kernel drops packets from outside to 127.0.0.0/8, but only after the redirect has turned them into packets to us.
 * Dialled for a neighbour on the same link, they would reach what the application serves to itself alone.
 */
function isLoopback(ip: IpAddress): boolean {
  return ip === '::1' || ip.startsWith('127.');
}
