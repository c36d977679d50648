import net from 'node:net';
import { closeFd } from '../../native/addon.js';
import { duplicate } from '../../native/passed-sockets.js';

/** Accepts the probes of the host on duplicates of the control thread's sockets. `close` keeps accepted connections. */
export class ProbeListener {
  readonly #servers: readonly net.Server[];

  /** `sockets` stay the caller's. Throws `EBADF` if one has been closed. */
  constructor(init: {
    readonly sockets: readonly number[];
    readonly backlog: number;
    readonly onConnection: (socket: net.Socket) => void;
  }) {
    this.#servers = init.sockets.map((socket) => {
      const fd = duplicate(socket);
      const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, init.onConnection);
      // It listens already; what fails is an accept, whose connection the kernel has closed.
      server.on('error', () => {
        if (!server.listening) closeFd(fd);
      });
      return server.listen({ fd }, init.backlog);
    });
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}
