import net from 'node:net';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { duplicate, listenerOf } from '../../native/passed-sockets.js';
import type { Probing } from '../../native/tcp-life.js';
import { type CapturePortName, capturePortNames, capturePorts } from '../../ports.js';
import { acrossHosts } from './conntrack-timeouts.js';
import type { Accepted } from '../io/io-listener.js';
import { ApplicationListener } from './application-listener.js';
import type { HostedWorkload } from './hosted-workload.js';

/** Gets an accepted connection, and owns it. */
export type AcceptHandler = (workload: HostedWorkload, accepted: Accepted) => void;

export type ListenerHandlers = {
  readonly outbound: AcceptHandler;
  readonly inboundPlaintext: AcceptHandler;
  /** An accepted, paused socket of another agent. */
  readonly inboundTunnel: (workload: HostedWorkload, socket: net.Socket) => void;
  /**
   * Connections cannot be accepted, for example for `EMFILE`. Those of applications wait, and this is called once until there is
   * room; a tunnel's may have been closed.
   */
  readonly acceptFailed: (workload: HostedWorkload, port: CapturePortName, error: Error) => void;
};

/**
 * The three listeners inside one workload's namespace: dual stack, on sockets that the control thread has opened. One
 * worker has them, another one for each workload, and passes on what it accepts (see `Entrance`). One queue is in the
 * order in which the clients' connects returned, and several queues are not. `close` closes the listeners and not the
 * accepted connections.
 */
export class WorkloadListeners {
  readonly #listening: readonly Listening[];

  private constructor(listening: readonly Listening[]) {
    this.#listening = listening;
  }

  /** Opens all or none. Throws `ESTALE` or `EBADF` if a socket is not, or no longer, what it should be. */
  static async open(init: {
    readonly workload: HostedWorkload;
    /** Stay the caller's. */
    readonly sockets: Readonly<Record<CapturePortName, readonly number[]>>;
    readonly backlog: number;
    readonly handlers: ListenerHandlers;
  }): Promise<WorkloadListeners> {
    const listening: Listening[] = [];
    try {
      for (const name of capturePortNames) {
        for (const socket of init.sockets[name]) {
          const opening = { ...init, name, socket };
          listening.push({
            name,
            listener: name === 'inboundTunnel' ? await openServer(opening) : openListener({ ...opening, name }),
          });
        }
      }
    } catch (error) {
      for (const { listener } of listening) listener.close();
      throw error;
    }
    return new WorkloadListeners(listening);
  }

  /** The connections of applications that are accepted from here on are probed in this way. */
  probe(how: Probing): void {
    for (const { name, listener } of this.#listening) {
      if (listener instanceof ApplicationListener) listener.probe(probingOn(name, how));
    }
  }

  close(): void {
    for (const { listener } of this.#listening) listener.close();
  }
}

/** A tunnel has PING instead of probes, and no urgent data. */
type Listening = { readonly name: CapturePortName; readonly listener: ApplicationListener | net.Server };
type Opening<Name extends CapturePortName> = {
  readonly workload: HostedWorkload;
  readonly backlog: number;
  readonly handlers: ListenerHandlers;
  readonly name: Name;
  readonly socket: number;
};

function probingOn(name: CapturePortName, how: Probing): Probing {
  return name === 'inboundPlaintext' ? acrossHosts(how) : how;
}

function openListener(init: Opening<'outbound' | 'inboundPlaintext'>): ApplicationListener {
  const { workload, backlog, handlers, name } = init;
  return ApplicationListener.open({
    fd: duplicateOf(init.socket, workload, name),
    backlog,
    probing: probingOn(name, workload.probing.open),
    onAccept: (accepted) => handlers[name](workload, accepted),
    onError: (error) => handlers.acceptFailed(workload, name, error),
  });
}

async function openServer(init: Opening<CapturePortName>): Promise<net.Server> {
  const { workload, backlog, handlers, name } = init;
  const fd = duplicateOf(init.socket, workload, name);
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
    handlers.inboundTunnel(workload, socket),
  );
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      closeFd(fd);
      reject(error);
    };
    server.once('error', onError);
    server.listen({ fd }, backlog, () => {
      server.off('error', onError);
      server.on('error', (error) => handlers.acceptFailed(workload, name, error));
      resolve();
    });
  });
  return server;
}

/** Checks the copy, and not the socket: that one may be closed, and its number used again, at any moment. */
function duplicateOf(socket: number, workload: HostedWorkload, name: CapturePortName): number {
  const fd = duplicate(socket);
  const listener = listenerOf(fd);
  if (listener?.netnsInode === workload.netnsInode && listener.port === capturePorts[name]) return fd;
  closeFd(fd);
  throw new CulvertError({
    code: 'ESTALE',
    message: `the socket for port ${capturePorts[name]} of ${workload.name} has been closed`,
    hint: 'nothing to do: the agent opens a new one',
  });
}
