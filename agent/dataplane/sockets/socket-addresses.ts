import type net from 'node:net';
import { parseIp, type HostPort } from '../../../shared/address.js';

export type SocketAddresses = { readonly local: HostPort; readonly remote: HostPort };

/** Both ends of a connected socket, IPv4-mapped ones as IPv4; undefined when the peer is gone already. */
export function socketAddresses(socket: net.Socket): SocketAddresses | undefined {
  const local = hostPort(socket.localAddress, socket.localPort);
  const remote = hostPort(socket.remoteAddress, socket.remotePort);
  return local === undefined || remote === undefined ? undefined : { local, remote };
}

function hostPort(address: string | undefined, port: number | undefined): HostPort | undefined {
  // A link-local IPv6 address carries its zone ("fe80::1%eth0"), which is no part of the address.
  const ip = parseIp((address ?? '').replace(/%.*$/, ''));
  return ip === undefined || port === undefined ? undefined : { ip, port };
}
