import type net from 'node:net';
import { isIpv6, type HostPort } from '../../../shared/address.js';
import { describeError } from '../../../shared/errors.js';
import { acceptedFd, originalDestination } from '../../native/addon.js';
import { capturePorts } from '../../ports.js';
import type { HostedWorkload } from './hosted-workload.js';
import { socketAddresses, type OriginalDestination, type PeerAddress } from '../sockets/socket-addresses.js';

/** Where an accepted connection was going before it was redirected to one of our ports. */
export type CapturedDestination =
  /**
   * `direct`: the client dialled our own port, and nothing was redirected. `mapped`: an IPv6 packet was addressed to an
   * IPv4-mapped address (RFC 4291, section 2.5.5.2), which no kernel sends and which a dial would take for IPv4.
   */
  | {
      readonly kind: 'redirected' | 'direct' | 'mapped';
      readonly dialled: OriginalDestination;
      readonly client: PeerAddress;
    }
  | UnreadableDestination;

/** The kernel did not say. The address of our own listener is never used instead. */
export type UnreadableDestination = {
  readonly kind: 'unreadable';
  readonly dialled: OriginalDestination | null;
  readonly client: PeerAddress | null;
  /** The client closed the connection before it was accepted. */
  readonly hasLeft: boolean;
  readonly detail: string;
};

/**
 * Call this first in the connection handler, while the socket is paused. Never throws. Without a `workload`, the client's
 * port may be one that the redirect gave it.
 */
export function capturedDestination(
  socket: net.Socket,
  workload: Pick<HostedWorkload, 'clientPort'> | null = null,
): CapturedDestination {
  let client: PeerAddress | null = null;
  let hasLeft = false;
  let local: HostPort;
  let original: HostPort | null;
  try {
    const addresses = socketAddresses(socket);
    if (addresses === null) return unreadable({ hasLeft: true });
    ({ local, peer: client } = addresses);
    hasLeft = client === null;
    original = originalDestination({ fd: acceptedFd(socket), localFamily: isIpv6(local.ip) ? 6 : 4 });
  } catch (error) {
    return unreadable({ client, hasLeft, detail: describeError(error) });
  }
  const isDirect = original === null || (original.ip === local.ip && original.port === local.port);
  const dialled = (isDirect ? local : original) as OriginalDestination;
  if (client === null) return unreadable({ dialled, hasLeft: true });
  if (isDirect) return { kind: 'direct', dialled, client };
  if (isIpv6(dialled.ip) !== isIpv6(local.ip)) return { kind: 'mapped', dialled, client };
  return { kind: 'redirected', dialled, client: ownClient(socket, client, workload) };
}

/** With the port that the client dialled from. It is only shown, so a fault here does not end the connection. */
function ownClient(
  socket: net.Socket,
  client: PeerAddress,
  workload: Pick<HostedWorkload, 'clientPort'> | null,
): PeerAddress {
  try {
    const port = workload?.clientPort(socket) ?? null;
    return port === null || port === client.port ? client : ({ ip: client.ip, port } as PeerAddress);
  } catch {
    return client;
  }
}

function unreadable(known: Partial<UnreadableDestination>): UnreadableDestination {
  return { kind: 'unreadable', dialled: null, client: null, hasLeft: false, detail: '', ...known };
}

const ownPorts: ReadonlySet<number> = new Set(Object.values(capturePorts));

/** Whether an agent, not an application, listens on this port of a captured workload. */
export function isOwnPort(port: number): boolean {
  return ownPorts.has(port);
}
