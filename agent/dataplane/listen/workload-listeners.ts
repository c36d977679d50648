import net from 'node:net';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { duplicate, listenerOf } from '../../native/passed-sockets.js';
import { keepUrgentInline, setProbing, type Probing } from '../../native/tcp-life.js';
import { type CapturePortName, capturePortNames, capturePorts } from '../../ports.js';
import { acrossHosts } from './conntrack-timeouts.js';
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
        for (const socket of init.sockets[name]) listening.push(await openServer({ ...init, name, socket }));
      }
    } catch (error) {
      for (const { server } of listening) server.close();
      throw error;
    }
    return new WorkloadListeners(listening);
  }

  /** The connections of applications that are accepted from here on are probed in this way. */
  probe(how: Probing): void {
    for (const { name, fd, server } of this.#listening) {
      if (isForApplications(name) && server.listening) setProbing(fd, probingOn(name, how));
    }
  }

  close(): void {
    for (const { server } of this.#listening) server.close();
  }
}

/** `fd`: of the server, open as long as it listens. */
type Listening = { readonly name: CapturePortName; readonly fd: number; readonly server: net.Server };

/** A tunnel has PING instead of probes, and no urgent data. */
function isForApplications(name: CapturePortName): boolean {
  return name !== 'inboundTunnel';
}

function probingOn(name: CapturePortName, how: Probing): Probing {
  return name === 'inboundPlaintext' ? acrossHosts(how) : how;
}

async function openServer(init: {
  readonly workload: HostedWorkload;
  readonly backlog: number;
  readonly handlers: ListenerHandlers;
  readonly name: CapturePortName;
  readonly socket: number;
}): Promise<Listening> {
  const { workload, backlog, handlers, name } = init;
  const fd = duplicateOf(init.socket, workload, name);
  try {
    if (isForApplications(name)) {
      keepUrgentInline(fd);
      setProbing(fd, probingOn(name, workload.probing.open));
    }
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  // Paused, so that no byte is read before the original destination; half-open, because a FIN ends one direction only.
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
    handlers[name](workload, socket),
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
  return { name, fd, server };
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
