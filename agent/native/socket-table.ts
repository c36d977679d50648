import type { HostPort } from '../../shared/address.js';
import { callAddon, closeFd } from './addon.js';

/** A connection as its owner has it. Both addresses are of one family. */
export type SocketAddress = { readonly local: HostPort; readonly remote: HostPort };

/** One socket of any process. The kernel never gives its cookie (SO_COOKIE) to another one. */
export type KnownSocket = SocketAddress & { readonly cookie: bigint };

export type FoundSocket = {
  readonly cookie: bigint;
  /** It waits for the answer to its SYN, as a client in connect(2) does. */
  readonly isConnecting: boolean;
  /** It has got an answer to its SYN. */
  readonly hasConnected: boolean;
  /** Until its next keepalive probe; null when it sends none, or while bytes are under way. */
  readonly probesInMs: number | null;
};

/** The end of an application, and where to ask about it. Never kept: a workload owns the table. */
export type ApplicationEnd = { readonly sockets: SocketTable; readonly socket: SocketAddress };

type SockDiag = {
  openSockDiag(netns: number): number;
  findSocket(fd: number, ...name: SocketName): [cookie: bigint, state: number, probesInMs: number] | null;
  abortSocket(fd: number, ...name: SocketName): boolean;
};

type SocketName = [localIp: string, localPort: number, remoteIp: string, remotePort: number, cookie: bigint];

const anyCookie = 0n;
/** From include/net/tcp_states.h. */
const synSent = 2;
/** SYN_SENT, SYN_RECV, NEW_SYN_RECV. */
const connectingStates: ReadonlySet<number> = new Set([synSent, 3, 12]);

/**
 * The TCP sockets of one network namespace, of all processes (sock_diag(7)). Owns a netlink socket, which keeps the
 * namespace alive: `close` it.
 */
export class SocketTable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** `netnsFd` stays the caller's. */
  static open(netnsFd: number): SocketTable {
    return new SocketTable(call('opening sock_diag', (addon) => addon.openSockDiag(netnsFd)));
  }

  /** The socket that has this connection now, or the one with its cookie; null when there is none. */
  find(wanted: SocketAddress | KnownSocket): FoundSocket | null {
    const found = call('asking for a socket', (addon) => addon.findSocket(this.#fd, ...nameOf(wanted)));
    if (found === null) return null;
    const [cookie, state, probesInMs] = found;
    return {
      cookie,
      isConnecting: state === synSent,
      hasConnected: !connectingStates.has(state),
      probesInMs: probesInMs < 0 ? null : probesInMs,
    };
  }

  /**
   * Ends a socket, which then sees ECONNABORTED: for a connection whose bytes can no longer reach it. Returns whether it
   * was there. Throws `EOPNOTSUPP` where the kernel cannot (CONFIG_INET_DIAG_DESTROY).
   */
  abort(socket: KnownSocket): boolean {
    return call('ending the socket of an application', (addon) => addon.abortSocket(this.#fd, ...nameOf(socket)));
  }

  /** Nothing may be asked after it. */
  close(): void {
    closeFd(this.#fd);
  }
}

function nameOf(socket: SocketAddress | KnownSocket): SocketName {
  const { local, remote } = socket;
  return [local.ip, local.port, remote.ip, remote.port, 'cookie' in socket ? socket.cookie : anyCookie];
}

function call<T>(what: string, step: (addon: SockDiag) => T): T {
  return callAddon(what, step);
}
