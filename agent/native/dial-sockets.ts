import type { IpAddress } from '../../shared/address.js';
import { callAddon, closeFd } from './addon.js';

/** See dials.c. */
type DialAddon = {
  dialSockets(netns: number, family: 4 | 6, mark: number, transparent: boolean, count: number): readonly number[];
  dialFrom(fd: number, family: 4 | 6, source: string, sourcePort: number): void;
  dialPlain(fd: number, family: 4 | 6): void;
};

/** Sockets that one request makes at most: MAX_DIALS in request.h. */
export const mostDialSockets = 16;

type MadeFor = {
  /** An open fd of `/run/netns/X` or `/proc/PID/ns/net` (see `openNetns`); null: the calling thread's namespace. */
  readonly netnsFd: number | null;
  readonly family: 4 | 6;
  /** SO_MARK; 0 sets none. */
  readonly mark: number;
};

export type DialSource = {
  /** Dial from this address, which need not belong to that namespace (IP_TRANSPARENT). Same family, not link-local. */
  readonly transparentSource?: IpAddress;
  /**
   * With `transparentSource`: dial from this port. The kernel chooses another one when the port lies outside the
   * namespace's `ip_local_port_range`, and before Linux 6.3; when it is taken, connect fails with `EADDRNOTAVAIL`.
   */
  readonly sourcePort?: number;
};

/**
 * Creates an unconnected TCP socket with TCP_NODELAY in a network namespace. Connect it in the same tick with `new
 * net.Socket({ fd, manualStart: true, allowHalfOpen: true }).connect({ host: <IP literal>, port })`.
 */
export function dialSocket(o: MadeFor & DialSource): number {
  const [fd] = make(o, o.transparentSource !== undefined, 1);
  if (o.transparentSource !== undefined) aimSpare(fd, o.family, o);
  return fd;
}

/**
 * Creates up to `count` of them (1 to {@link mostDialSockets}) with one request, at least one, each for {@link aimSpare}. The
 * namespace must not be the agent's own: a helper makes no transparent socket there (`EPERM`).
 */
export function spareSockets(o: MadeFor & { readonly count: number }): readonly [number, ...number[]] {
  return make(o, true, o.count);
}

function make(
  { netnsFd, family, mark }: MadeFor,
  isTransparent: boolean,
  count: number,
): readonly [number, ...number[]] {
  const fds = callAddon('preparing a socket to dial with', (addon: DialAddon) =>
    addon.dialSockets(netnsFd ?? -1, family, mark, isTransparent, count),
  );
  return fds as readonly [number, ...number[]];
}

/** Makes of a spare socket what {@link dialSocket} gives, without a capability. Closes it when that fails. */
export function aimSpare(fd: number, family: 4 | 6, { transparentSource, sourcePort }: DialSource): void {
  try {
    callAddon('preparing a socket to dial with', (addon: DialAddon) => {
      if (transparentSource === undefined) addon.dialPlain(fd, family);
      else addon.dialFrom(fd, family, transparentSource, sourcePort ?? 0);
    });
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
