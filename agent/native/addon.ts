import { createRequire } from 'node:module';
import type { Server, Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { type HostPort, type IpAddress, parseIp } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';

/**
 * Typed access to what Node has no API for. Works in the main thread and in every worker thread. Each call is
 * synchronous and leaves the calling thread in the namespace that it was in.
 *
 * The caller owns every returned fd. Failures throw a {@link CulvertError} whose code is the errno's name
 * (`EADDRINUSE`, `EPERM`, …) and whose message names the step.
 */
type NativeAddon = {
  listenTcp(
    netns: number,
    host: string,
    port: number,
    backlog: number,
    reusePort: boolean,
    transparent: boolean,
  ): number;
  makeTransparent(fd: number): void;
  closeFd(fd: number): void;
  shutDown(fd: number): void;
  originalDestination(fd: number, family: 4 | 6): [ip: string, port: number] | null;
  socketAddresses(fd: number): [localIp: string, localPort: number, peerIp?: string, peerPort?: number];
  resetOnClose(fd: number): void;
  exitAtOnce(code: number): never;
  openConntrack(netns: number): number;
  originalSourcePort(conntrack: number, fd: number): number;
  isTracked(conntrack: number, serverIp: string, serverPort: number, clientIp: string, clientPort: number): boolean;
  watchChanges(netns: number, ofNetfilter: boolean): number;
  takeChanges(fd: number, table: number): boolean;
  readProcFile(netns: number, path: string): string;
};

export type ListenTcpOptions = {
  /** An open fd of `/run/netns/X` or `/proc/PID/ns/net` (see `openNetns`); null: the calling thread's namespace. */
  readonly netnsFd: number | null;
  /**
   * An IP literal. `::` is dual stack, or `0.0.0.0` on a kernel without IPv6; `server.address().family` shows which.
   */
  readonly host: string;
  readonly port: number;
  readonly backlog: number;
  /** SO_REUSEPORT: other processes of the same user may listen on the same port; the kernel spreads connections. */
  readonly reusePort: boolean;
  /** IP_TRANSPARENT, as in {@link makeTransparent}. */
  readonly transparent?: boolean;
};

/**
 * Opens a listening TCP socket (non-blocking, close-on-exec) in a network namespace. Accepted sockets inherit
 * TCP_NODELAY. Hand the fd over with `server.listen({ fd }, backlog)`: Node listens again, and takes 511 where it gets no second
 * argument.
 */
export function listenTcp(o: ListenTcpOptions): number {
  const where = `listening on ${o.host} port ${o.port}`;
  return call(where, () =>
    loadAddon().listenTcp(o.netnsFd ?? -1, o.host, o.port, o.backlog, o.reusePort, o.transparent ?? false),
  );
}

/**
 * Marks a socket as IP_TRANSPARENT, which only a process with CAP_NET_ADMIN or CAP_NET_RAW can do: the kernel's `socket`
 * match tells it from those of others.
 */
export function makeTransparent(fd: number): void {
  call('marking a socket as transparent', () => loadAddon().makeTransparent(fd));
}

/**
 * Closes a descriptor that this addon made, and that no socket of Node has taken over. In a worker thread `fs.closeSync`
 * warns about descriptors that `fs` has not opened (Node: `trackUnmanagedFds`). Throws `EBADF`.
 */
export function closeFd(fd: number): void {
  call('closing a descriptor', () => loadAddon().closeFd(fd));
}

/**
 * Ends listening on a socket, whichever processes have copies of it: it leaves its SO_REUSEPORT group, and what waits in
 * its queue is reset. The fd stays the caller's. Throws `EBADF`, or `ENOTCONN` if it does not listen.
 */
export function stopListening(fd: number): void {
  call('shutting down a listening socket', () => loadAddon().shutDown(fd));
}

/**
 * The address that the application dialled before iptables redirected the connection to the agent. `localFamily` is the
 * family of the socket's own local address; an IPv4-mapped address counts as 4.
 *
 * For a connection that was not redirected the kernel returns the socket's own local address where conntrack is active,
 * and null (ENOENT) where it is not. Both mean that the agent's own port was dialled.
 */
export function originalDestination(o: { readonly fd: number; readonly localFamily: 4 | 6 }): HostPort | null {
  const found = call('reading the original destination', () => loadAddon().originalDestination(o.fd, o.localFamily));
  return found === null ? null : { ip: kernelIp(found[0]), port: found[1] };
}

/** The addresses of a connected socket. IPv4-mapped addresses become IPv4; a link-local address has lost its zone. */
export type SocketAddresses = {
  readonly local: HostPort;
  /** Null when the peer has closed the connection. */
  readonly peer: HostPort | null;
};

/**
 * Reads both addresses from the kernel. Node's `remoteAddress` cannot be used: it looks up the name of a link-local
 * address's interface in the namespace of the process, and throws `ENXIO` if no interface has that index.
 */
export function socketAddresses(fd: number): SocketAddresses {
  const found = call('reading the addresses of a socket', () => loadAddon().socketAddresses(fd));
  const [localIp, localPort, peerIp, peerPort] = found;
  const peer = peerIp === undefined || peerPort === undefined ? null : { ip: kernelIp(peerIp), port: peerPort };
  return { local: { ip: kernelIp(localIp), port: localPort }, peer };
}

/** Opens what {@link originalSourcePort} asks in this namespace. The caller owns the fd, which keeps the namespace alive. */
export function openConntrack(o: { readonly netnsFd: number | null }): number {
  return call('opening connection tracking', () => loadAddon().openConntrack(o.netnsFd ?? -1));
}

/**
 * The port that the client of a redirected connection dialled from. The kernel gives the redirected connection another
 * one if the client has dialled another destination from the same port. Null when connection tracking does not have the
 * connection. Throws `EPERM`, for example.
 */
export function originalSourcePort(o: { readonly conntrackFd: number; readonly fd: number }): number | null {
  const port = call('asking connection tracking', () => loadAddon().originalSourcePort(o.conntrackFd, o.fd));
  return port === 0 ? null : port;
}

/**
 * Whether connection tracking has a connection: it finds the entry by the packets that go from `server` to `client`. Throws
 * `EPERM`, for example.
 */
export function isTracked(o: {
  readonly conntrackFd: number;
  readonly server: HostPort;
  readonly client: HostPort;
}): boolean {
  const { server, client } = o;
  return call('asking connection tracking', () =>
    loadAddon().isTracked(o.conntrackFd, server.ip, server.port, client.ip, client.port),
  );
}

/** For the other files of this folder: an address as the kernel wrote it. */
export function kernelIp(text: string): IpAddress {
  const ip = parseIp(text);
  if (ip !== undefined) return ip;
  throw new CulvertError({ code: 'EINVAL', message: `the kernel returned no IP address: ${text}` });
}

/**
 * Opens a netlink socket that receives every later change in a namespace: of nftables (`netfilter`), or of routes,
 * policy rules and the loopback interface (`routes`). Read it with {@link takeChanges}. While it is open the namespace
 * stays alive. Throws `EPROTONOSUPPORT` or `ENOENT` if the kernel has no nftables.
 */
export function watchChanges(o: { readonly netnsFd: number | null; readonly of: 'netfilter' | 'routes' }): number {
  return call(`watching ${o.of}`, () => loadAddon().watchChanges(o.netnsFd ?? -1, o.of === 'netfilter'));
}

/**
 * Whether anything changed since the last call; never blocks. With `routeTable` only that table's routes, policy rules
 * and changes of lo count. Messages that the kernel dropped count as a change.
 */
export function takeChanges(o: { readonly fd: number; readonly routeTable?: number }): boolean {
  return call('reading changes', () => loadAddon().takeChanges(o.fd, o.routeTable ?? 0));
}

/**
 * Reads the first 16 KiB of a small per-namespace file, below `/proc/thread-self/net` or `/proc/sys/net`. Throws
 * `ENOENT`, for example.
 */
export function readProcFile(o: { readonly netnsFd: number | null; readonly path: string }): string {
  return call(`reading ${o.path}`, () => loadAddon().readProcFile(o.netnsFd ?? -1, o.path));
}

/**
 * The fd of an accepted socket or of a listening server. The socket keeps the fd: use it at once and never close it.
 * Throws with code `EBADF` if the socket is already closed.
 */
export function acceptedFd(socket: Socket | Server): number {
  const fd = fdOf(socket);
  if (fd === null) throw new CulvertError({ code: 'EBADF', message: 'the socket has no fd: it is closed' });
  return fd;
}

/** For the other files of this folder: a call of a function of the addon, whose errors become {@link CulvertError}s. */
export function callAddon<Addon, T>(what: string, step: (addon: Addon) => T): T {
  return call(what, () => step(loadAddon() as Addon));
}

/** The only place that takes a descriptor from Node's private `_handle`. */
function fdOf(socket: Socket | Server): number | null {
  const handle = (socket as { readonly _handle?: { readonly fd?: number } | null })._handle;
  const fd = handle?.fd ?? -1;
  return fd < 0 ? null : fd;
}

/**
 * Destroys a socket with RST, whatever it is doing: `close` follows, and what it has not sent is lost. Does nothing to one
 * that is destroyed.
 *
 * In place of Node's `resetAndDestroy()`, which loses the socket while an `end()` is not finished: libuv then refuses the
 * reset (EINVAL), and Node forgets the handle without closing it. The fd and the connection stay for ever, no `close`
 * follows, and the thread that owns them never ends.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  const fd = fdOf(socket);
  if (fd !== null) call('resetting a socket', () => loadAddon().resetOnClose(fd));
  socket.destroy();
}

/** Closes a TCP socket that the caller owns, with RST. Throws `EBADF`; what is no such socket is closed without. */
export function resetFd(fd: number): void {
  try {
    loadAddon().resetOnClose(fd);
  } catch {
    // It has nothing that could be reset.
  }
  closeFd(fd);
}

/**
 * Ends the process and waits for nothing. `process.exit()` first ends every thread, and waits for ever for one whose event
 * loop has a handle that is never closed. Only `main.ts` calls it.
 */
export function exitAtOnce(code: number): never {
  return loadAddon().exitAtOnce(code);
}

let addon: NativeAddon | undefined;

function loadAddon(): NativeAddon {
  if (addon !== undefined) return addon;
  try {
    addon = createRequire(import.meta.url)('./culvert.node') as NativeAddon;
    return addon;
  } catch (cause) {
    throw new CulvertError({
      code: 'NATIVE_ADDON',
      message: "the agent's native addon cannot be loaded",
      hint: 'it needs Linux and a C compiler: apt-get install -y gcc libc6-dev, then npm run build',
      cause,
    });
  }
}

const hints: Readonly<Record<string, string>> = {
  EPERM: 'run the agent as root, which starts a privileged helper, or next to one (culvert-helper.socket)',
  EPIPE: 'the privileged helper has ended: the agent ends too, and its supervisor starts both',
  EADDRINUSE: 'another process listens on this port in that network namespace: find it with ss -ltnp',
  EMFILE: "raise the agent's limit of open files (LimitNOFILE=)",
  ENFILE: "raise the host's limit of open files (sysctl fs.file-max)",
};

function call<T>(what: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (!isErrnoError(error)) throw error;
    const code = getSystemErrorName(-error.errno);
    const hint = hints[code];
    throw new CulvertError({
      code,
      message: `${what}: ${error.message}: ${code}`,
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    });
  }
}

function isErrnoError(error: unknown): error is Error & { errno: number } {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number';
}
