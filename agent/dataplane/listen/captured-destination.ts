import type net from 'node:net';
import { isIpv6, parseIp, type HostPort } from '../../../shared/address.js';
import { acceptedFd, originalDestination } from '../../native/addon.js';
import { capturePorts } from '../../ports.js';

/** Where an accepted connection was going before it was redirected to one of our ports. */
export type CapturedDestination =
  | { readonly kind: 'redirected'; readonly dialled: HostPort; readonly client: HostPort }
  /** It was addressed to our own port: nothing was redirected. */
  | { readonly kind: 'direct'; readonly dialled: HostPort; readonly client: HostPort }
  /** Nobody can say; the connection must be closed. The local address is never taken instead (DESIGN §2). */
  | { readonly kind: 'unreadable' };

/** To be called first thing in the connection handler, while the socket is paused. */
export function capturedDestination(socket: net.Socket): CapturedDestination {
  const local = endOf(socket.localAddress, socket.localPort);
  const client = endOf(socket.remoteAddress, socket.remotePort);
  if (local === undefined || client === undefined) return { kind: 'unreadable' };
  let dialled: HostPort | null;
  try {
    dialled = originalDestination({ fd: acceptedFd(socket), localFamily: isIpv6(local.ip) ? 6 : 4 });
  } catch {
    return { kind: 'unreadable' };
  }
  if (dialled === null || (dialled.ip === local.ip && dialled.port === local.port)) {
    return { kind: 'direct', dialled: local, client };
  }
  return { kind: 'redirected', dialled, client };
}

/** IPv4-mapped addresses come out as IPv4. */
export function endOf(address: string | undefined, port: number | undefined): HostPort | undefined {
  const ip = address === undefined ? undefined : parseIp(address);
  return ip === undefined || port === undefined ? undefined : { ip, port };
}

const ownPorts: ReadonlySet<number> = new Set(Object.values(capturePorts));

/** Whether this is a port on which an agent, not an application, listens in a captured workload. */
export function isOwnPort(port: number): boolean {
  return ownPorts.has(port);
}
