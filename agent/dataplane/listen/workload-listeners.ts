import { closeSync } from 'node:fs';
import net from 'node:net';
import { listenTcp } from '../../native/addon.js';
import { capturePorts } from '../../ports.js';
import type { HostedWorkload } from './hosted-workload.js';

/** Gets an accepted, paused socket, and owns it. */
export type AcceptHandler = (workload: HostedWorkload, socket: net.Socket) => void;

export type ListenerHandlers = {
  readonly outbound: AcceptHandler;
  readonly inboundPlaintext: AcceptHandler;
  readonly inboundTunnel: AcceptHandler;
  /** A connection could not be accepted, for example for `ENOMEM`, and the kernel closed it. */
  readonly acceptFailed: (workload: HostedWorkload, port: CapturePortName, error: Error) => void;
};

export type CapturePortName = keyof typeof capturePorts;

/**
 * The three listeners of one worker inside one workload's namespace: dual stack, shared with the other workers by
 * SO_REUSEPORT. `close` closes the listeners and not the accepted connections.
 */
export class WorkloadListeners {
  readonly #servers: readonly net.Server[];

  private constructor(servers: readonly net.Server[]) {
    this.#servers = servers;
  }

  /** Opens all or none. Throws the native layer's error, for example `EADDRINUSE`. */
  static async open(init: {
    readonly workload: HostedWorkload;
    readonly backlog: number;
    readonly handlers: ListenerHandlers;
  }): Promise<WorkloadListeners> {
    const servers: net.Server[] = [];
    try {
      for (const name of Object.keys(capturePorts) as CapturePortName[]) {
        servers.push(await openServer({ ...init, name }));
      }
    } catch (error) {
      for (const server of servers) server.close();
      throw error;
    }
    return new WorkloadListeners(servers);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}

async function openServer(init: {
  readonly workload: HostedWorkload;
  readonly backlog: number;
  readonly handlers: ListenerHandlers;
  readonly name: CapturePortName;
}): Promise<net.Server> {
  const { workload, backlog, handlers, name } = init;
  const fd = listenTcp({
    netnsFd: workload.netnsFd,
    host: '::',
    port: capturePorts[name],
    backlog,
    reusePort: true,
  });
  // Paused, so that no byte is read before the original destination; half-open, because a FIN ends one direction only.
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
    handlers[name](workload, socket),
  );
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      closeSync(fd);
      reject(error);
    };
    server.once('error', onError);
    server.listen({ fd, backlog }, () => {
      server.off('error', onError);
      server.on('error', (error) => handlers.acceptFailed(workload, name, error));
      resolve();
    });
  });
  return server;
}
