import { closeSync } from 'node:fs';
import net from 'node:net';
import { listenTcp } from '../../../native/addon.js';
import { keepUrgentInline, setProbing, type Probing } from '../../../native/tcp-life.js';
import { lateAcceptPorts } from '../../../ports.js';
import type { HostedWorkload } from '../hosted-workload.js';

/** Listens on one loopback address of a workload for connections of its applications. */
export class LoopbackListener {
  readonly #fd: number;
  readonly #server: net.Server;

  private constructor(fd: number, server: net.Server) {
    this.#fd = fd;
    this.#server = server;
  }

  /** `onAccept` gets paused sockets and owns them. Throws the native layer's error, for example `EADDRINUSE`. */
  static async open(init: {
    readonly workload: HostedWorkload;
    readonly host: string;
    readonly backlog: number;
    readonly onAccept: (socket: net.Socket) => void;
    readonly onError: (error: Error) => void;
  }): Promise<LoopbackListener> {
    const { workload, host, backlog, onAccept, onError } = init;
    const port = lateAcceptPorts.accepted;
    const fd = listenTcp({ netnsFd: workload.netnsFd, host, port, backlog, reusePort: false, transparent: true });
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, onAccept);
    try {
      keepUrgentInline(fd);
      setProbing(fd, workload.probing.open);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ fd }, backlog, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    server.on('error', onError);
    return new LoopbackListener(fd, server);
  }

  /** Connections that are accepted from here on are probed in this way. */
  probe(how: Probing): void {
    if (this.#server.listening) setProbing(this.#fd, how);
  }

  close(): void {
    this.#server.close();
  }
}
