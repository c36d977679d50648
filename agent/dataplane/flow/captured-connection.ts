import { isIpv6 } from '../../../shared/address.js';
import { isTracked, originalDestination } from '../../native/addon.js';
import type { ApplicationEnd } from '../../native/socket-table.js';
import { tcpCondition } from '../../native/tcp-life.js';
import type { Ending } from '../connection/ending.js';
import { ConnectionCut } from '../connection/termination-signal.js';
import type { RelayOutcome } from '../relay/relay.js';
import type { PeerSocket } from '../relay/relay-peer.js';
import type { TrackedConnection } from './tracked-connection.js';

/**
 * A captured connection lives on an entry of connection tracking: it turns the application's packets to us, and ours into
 * packets from the address that was dialled. When the entry goes, both sockets stay open and no byte arrives any more. The
 * kernel tells neither of them.
 */

const detail = 'its entry in connection tracking is gone';

/** Whether the entry of an accepted connection has gone. */
export function hasLostEntry({ record }: TrackedConnection, accepted: Pick<PeerSocket, 'fd'>): boolean {
  const { requested } = record;
  if (requested === null) return false;
  const found = originalDestination({ fd: accepted.fd, localFamily: isIpv6(requested.ip) ? 6 : 4 });
  return found?.ip !== requested.ip || found.port !== requested.port;
}

/**
 * Learns which socket the application has, once. Later it may have gone, and a client that reconnects from the same port
 * has another one with the same addresses, which must not be taken for it.
 */
export function learnApplication(connection: TrackedConnection, accepted: Pick<PeerSocket, 'fd'>): void {
  if (connection.application !== null) return;
  const end = applicationEnd(connection);
  const found = end?.sockets.find(end.socket);
  if (end === null || found?.hasConnected !== true) return;
  // Asked after the other question: before a client can connect again from this port, the kernel ends what we accepted.
  if (!tcpCondition(accepted.fd).isOpen) return;
  connection.application = { ...end.socket, cookie: found.cookie };
}

/** Ends a connection whose entry has gone, on both sides. */
export function endLost(connection: TrackedConnection): void {
  abortApplication(connection);
  connection.cut(new ConnectionCut({ reason: 'CAPTURE_LOST', detail }));
}

/**
 * Whether a reset means that an entry has gone. Returns null when an application did reset the connection, and when that is
 * not known.
 */
export function explainLostEntry(connection: TrackedConnection, outcome: RelayOutcome): Ending | null {
  const { broken } = outcome;
  if (broken === undefined || !resetCodes.has(broken.detail)) return null;
  const isLost = broken.side === 'source' ? hasLostClient(connection) : hasLostDial(connection);
  return isLost ? { reason: 'CAPTURE_LOST', rule: null, detail } : null;
}

/**
 * A packet of ours that no entry translates reaches the application's host from an address that it does not know, and is
 * answered with a reset. That looks like a reset of the application, but its socket is still there. False also when its
 * socket was never known.
 */
function hasLostClient(connection: TrackedConnection): boolean {
  return abortApplication(connection);
}

/**
 * An application sees the client's own address, so its packets come to us only as long as an entry tells them from those to
 * the client. Without it they leave the host, and what they meet there resets the application. Our next packet makes the
 * entry again, is answered with a reset, and the kernel drops an entry whose only answer is a reset. The entry of a
 * connection that the application itself resets stays for 10 s (`nf_conntrack_tcp_timeout_close`).
 */
function hasLostDial({ record, workloads }: TrackedConnection): boolean {
  const workload = workloads.at(-1);
  const { dialEnd, source, destination, direction, path } = record;
  // A workload that dials itself gets its answers without an entry, like every connection from an address of its own.
  const isInside = direction === 'inbound' || (path === 'local' && workloads.length > 1);
  if (!isInside || dialEnd === null || destination.address === null || dialEnd.ip !== source.address?.ip) return false;
  const conntrackFd = workload?.conntrackFd ?? null;
  if (conntrackFd === null) return false;
  try {
    return !isTracked({ conntrackFd, server: destination.address, client: dialEnd });
  } catch {
    return false;
  }
}

const resetCodes: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT']);

/** A reset through the entry would not arrive, and the application would wait for ever. Returns whether it had its socket. */
function abortApplication({ application, workloads }: TrackedConnection): boolean {
  const [workload] = workloads;
  if (application === null || workload?.isOpen !== true) return false;
  try {
    return workload.sockets.abort(application);
  } catch {
    // The kernel cannot end sockets of others. The application notices at its next byte.
    return false;
  }
}

/** The application's own end of a connection that it opened on this host. */
export function applicationEnd({ record, workloads }: TrackedConnection): ApplicationEnd | null {
  const [workload] = workloads;
  const { requested, source } = record;
  if (record.direction !== 'outbound' || workload?.isOpen !== true) return null;
  if (requested === null || source.address === null) return null;
  return { sockets: workload.sockets, socket: { local: source.address, remote: requested } };
}
