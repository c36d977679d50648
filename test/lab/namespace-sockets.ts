import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import net from 'node:net';
import { listenTcp } from '../../agent/native/addon.js';
import { dialSocket } from '../../agent/native/dial-sockets.js';
import { openNetns } from '../../agent/native/netns.js';
import type { IpAddress } from '../../shared/address.js';
import { formatHostPort, isIpv6, parseIp } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';

export type ConnectOptions = {
  readonly ip: string;
  readonly port: number;
  /** Default: 10 s. */
  readonly timeoutMs?: number;
  /** Default: one that the kernel chooses. */
  readonly localPort?: number;
};

export type ListenOptions = {
  /** Default: 0, a free port. */
  readonly port?: number;
  /** Default: `::`, IPv4 and IPv6. */
  readonly ip?: string;
  readonly backlog?: number;
  /** Accepted connections start paused, like a reader that does not read. */
  readonly isPaused?: boolean;
};

/** A listener in a namespace; closing it destroys the connections that it accepted. */
export type LabServer = AsyncDisposable & {
  readonly port: number;
  readonly server: net.Server;
  close(): Promise<void>;
};

/**
 * Sockets of this process in another network namespace, so that a test can act as the application inside a workload. It owns
 * its sockets: closing it destroys them, since an open one keeps the namespace alive. All allow half-open connections: a FIN
 * from the peer does not close this side.
 */
export class NamespaceSockets {
  readonly #netnsFd: number;
  readonly #sockets = new Set<Socket>();
  readonly #servers = new Set<LabServer>();
  #isClosed = false;

  constructor(init: { netnsPath: string }) {
    this.#netnsFd = openNetns(init.netnsPath).fd;
  }

  /** Resolves when connected; rejects with the socket's error (`ECONNREFUSED`…) or `LAB_CONNECT_DEADLINE`. */
  async connect(options: ConnectOptions): Promise<Socket> {
    this.#requireOpen();
    const ip = requireIp(options.ip);
    const family = isIpv6(ip) ? 6 : 4;
    const fd = dialSocket({ netnsFd: this.#netnsFd, family, mark: 0 });
    // `manualStart` is not in the type definitions: without it Node reads before the socket is connected.
    const init: net.SocketConstructorOpts & { manualStart: true } = { fd, manualStart: true, allowHalfOpen: true };
    const socket = new net.Socket(init);
    this.#own(socket);
    const timeoutMs = options.timeoutMs ?? 30_000;
    const timer = setTimeout(() => socket.destroy(deadlineError(ip, options.port, timeoutMs)), timeoutMs);
    try {
      const { port, localPort } = options;
      socket.connect({ host: ip, port, ...(localPort === undefined ? {} : { localPort }) });
      await once(socket, 'connect');
      return socket;
    } finally {
      clearTimeout(timer);
    }
  }

  async listen(options: ListenOptions, onConnection: (socket: Socket) => void): Promise<LabServer> {
    this.#requireOpen();
    const { ip: host = '::', port: wanted = 0, backlog = 1024 } = options;
    const fd = listenTcp({ netnsFd: this.#netnsFd, host, port: wanted, backlog, reusePort: false });
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: options.isPaused ?? false });
    const accepted = new Set<Socket>();
    server.on('connection', (socket) => {
      accepted.add(socket);
      socket.once('close', () => accepted.delete(socket));
      this.#own(socket);
      onConnection(socket);
    });
    server.listen({ fd, backlog });
    await once(server, 'listening');
    const close = async (): Promise<void> => {
      this.#servers.delete(labServer);
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of accepted) socket.destroy();
      await closed;
    };
    const { port } = server.address() as AddressInfo;
    const labServer: LabServer = { port, server, close, [Symbol.asyncDispose]: close };
    this.#servers.add(labServer);
    return labServer;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([...this.#servers].map((server) => server.close()));
    closeSync(this.#netnsFd);
  }

  #own(socket: Socket): void {
    this.#sockets.add(socket);
    // A reset must not crash a test that does not listen for errors.
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new CulvertError({ code: 'LAB_CLOSED', message: 'This lab was already torn down.' });
  }
}

function requireIp(text: string): IpAddress {
  const ip = parseIp(text);
  if (ip !== undefined) return ip;
  const hint = 'dial node.ipv4, node.ipv6 or lab.vip(name)';
  throw new CulvertError({ code: 'LAB_ADDRESS', message: `"${text}" is not an IP address.`, hint });
}

function deadlineError(ip: IpAddress, port: number, timeoutMs: number): CulvertError {
  const message = `${formatHostPort({ ip, port })} did not accept the connection within ${timeoutMs} ms.`;
  return new CulvertError({ code: 'LAB_CONNECT_DEADLINE', message });
}
