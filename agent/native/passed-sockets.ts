import type { Socket } from 'node:net';
import type { IpAddress } from '../../shared/address.js';
import { acceptedFd, callAddon, kernelIp } from './addon.js';

/** Listening sockets that live longer than the process that opened them. See passed-sockets.c and the names there. */
type PassedSockets = {
  passSockets(connection: number, fds: readonly number[], text: string): void;
  takeSockets(path: string, request: string, timeoutMs: number): [connection: number, text: string, ...fds: number[]];
  notify(path: string, text: string, fds: readonly number[]): void;
  listenerOf(fd: number): [netnsInode: number, ip: string, port: number] | null;
  duplicate(fd: number): number;
  peerUser(fd: number): number;
};

/** What a process gets from another one that passes its listening sockets. The caller owns every fd. */
export type TakenSockets = {
  /** The connection to the other process, for more messages. */
  readonly connectionFd: number;
  /** One line, as the other process wrote it. */
  readonly answer: string;
  readonly fds: readonly number[];
};

/**
 * Connects to a unix socket, sends a line, and receives a line with descriptors. Blocks for at most `timeoutMs` at each
 * step. Throws `ENOENT` or `ECONNREFUSED` if no process listens there, `EAGAIN` if it does not answer in time.
 */
export function takeSockets(o: {
  readonly path: string;
  readonly request: string;
  readonly timeoutMs: number;
}): TakenSockets {
  const [connectionFd, answer, ...fds] = callAddon(`taking sockets at ${o.path}`, (addon: PassedSockets) =>
    addon.takeSockets(o.path, `${o.request}\n`, o.timeoutMs),
  );
  return { connectionFd, answer, fds };
}

/** The other side of {@link takeSockets}. The descriptors stay the caller's; the peer gets copies. */
export function passSockets(o: {
  readonly connection: Socket;
  readonly fds: readonly number[];
  readonly answer: string;
}): void {
  callAddon('passing sockets', (addon: PassedSockets) =>
    addon.passSockets(acceptedFd(o.connection), o.fds, `${o.answer}\n`),
  );
}

/** Sends a datagram with at most 64 descriptors to the service manager (sd_notify(3)). They stay the caller's. */
export function notifyManager(o: {
  readonly path: string;
  readonly text: string;
  readonly fds: readonly number[];
}): void {
  callAddon('notifying the service manager', (addon: PassedSockets) => addon.notify(o.path, o.text, o.fds));
}

/** Where a socket listens; null if it is no listening TCP socket, or no socket. */
export function listenerOf(
  fd: number,
): { readonly netnsInode: number; readonly ip: IpAddress; readonly port: number } | null {
  const found = callAddon('asking where a socket listens', (addon: PassedSockets) => addon.listenerOf(fd));
  return found === null ? null : { netnsInode: found[0], ip: kernelIp(found[1]), port: found[2] };
}

/** A second descriptor of the same open file, closed on exec. Throws `EBADF`. */
export function duplicate(fd: number): number {
  return callAddon('duplicating a descriptor', (addon: PassedSockets) => addon.duplicate(fd));
}

/** The user of the process that connected a unix socket (SO_PEERCRED), as it was then. Throws `EBADF`, `ENOTCONN`. */
export function peerUserOf(connection: Socket): number {
  return callAddon('asking who connected', (addon: PassedSockets) => addon.peerUser(acceptedFd(connection)));
}
