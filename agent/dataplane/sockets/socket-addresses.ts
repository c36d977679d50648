import type net from 'node:net';
import type { HostPort } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import { acceptedFd, socketAddresses as readAddresses } from '../../native/addon.js';

/** Where a client wanted to go: read from the kernel, or checked in a CONNECT. Never the address of our own listener. */
export type OriginalDestination = HostPort & { readonly __brand: 'OriginalDestination' };

/** The address of the other side of a socket, as the kernel has it. */
export type PeerAddress = HostPort & { readonly __brand: 'PeerAddress' };

export type SocketAddresses = {
  readonly local: HostPort;
  /** Null when the peer has closed the connection. */
  readonly peer: PeerAddress | null;
};

/**
 * Both addresses of a connected socket, IPv4-mapped ones as IPv4, link-local ones without their zone. Null when the socket
 * is closed. Throws the native layer's error for any other cause: a client that left is no error, and a fault of this host
 * must not look like one.
 */
export function socketAddresses(socket: net.Socket): SocketAddresses | null {
  return addressesBy(() => acceptedFd(socket));
}

/** As {@link socketAddresses}, of a socket that is not Node's. */
export function addressesOf(socket: { readonly fd: number }): SocketAddresses | null {
  return addressesBy(() => socket.fd);
}

function addressesBy(fdNow: () => number): SocketAddresses | null {
  try {
    // The kernel's answer is the only origin of the brand.
    return readAddresses(fdNow()) as SocketAddresses;
  } catch (error) {
    if (error instanceof CulvertError && error.code === 'EBADF') return null;
    throw error;
  }
}

/** The peer's address where a fault must not end the connection: for limits, and for the choice of a worker. Empty: not known. */
export function peerIp(socket: net.Socket): string {
  try {
    return socketAddresses(socket)?.peer?.ip ?? '';
  } catch {
    return '';
  }
}
