import { CulvertError } from '../../../../shared/errors.js';
import type { Probing } from '../../../native/tcp-life.js';
import type { OriginalDestination } from '../../sockets/socket-addresses.js';
import type { Accepted } from '../../io/io-listener.js';
import { Reactor } from '../../io/reactor.js';
import { ApplicationSocket } from '../../relay/application-socket.js';
import type { ApplicationListener } from '../application-listener.js';
import { capturedDestination } from '../captured-destination.js';
import type { HostedWorkload } from '../hosted-workload.js';
import { ConnectQueue } from './connect-queue.js';
import type { HeldConnect } from './held-connect.js';
import { openLoopbackListener } from './loopback-listener.js';

export type LateAcceptHandlers = {
  /** Whether connections to this destination are accepted late, as the registry has it now. */
  readonly isLate: (dialled: OriginalDestination) => boolean;
  readonly held: (workload: HostedWorkload, connect: HeldConnect) => void;
  /**
   * Gets an accepted connection, and owns it: one for which no path is open, for example because the worker was started
   * again meanwhile. It is accepted early.
   */
  readonly unheld: (workload: HostedWorkload, accepted: Accepted) => void;
  readonly acceptFailed: (workload: HostedWorkload, error: Error) => void;
};

/** Until the connections are accepted whose SYNs have gone on: a turn of the event loop, on a busy host. */
const acceptMs = 100;
/** Where REDIRECT in nat OUTPUT leads. */
const loopback = ['127.0.0.1', '::1'] as const;

/**
 * Everything that late accept needs in one workload's namespace: the queue of SYNs, and the listeners for those that may go on.
 * One worker has it, so the worker that opened a path accepts its connection.
 */
export class LateAccept {
  readonly #parts: ApplicationListener[] = [];
  #queue: ConnectQueue | null = null;

  private constructor() {}

  /** Opens all or nothing. Throws the native layer's error, as `openSynQueue` and `listenTcp` do. */
  static open(init: {
    readonly workload: HostedWorkload;
    readonly backlog: number;
    readonly handlers: LateAcceptHandlers;
    /** The kernel ended the queue. */
    readonly onLost: (error: Error) => void;
  }): LateAccept {
    const { workload, backlog, handlers, onLost } = init;
    const opened = new LateAccept();
    try {
      for (const host of loopback) {
        const onAccept = (accepted: Accepted): void => opened.#accept(accepted, workload, handlers);
        const onError = (error: Error): void => handlers.acceptFailed(workload, error);
        const listener = openListener({ workload, host, backlog, onAccept, onError });
        if (listener !== null) opened.#parts.push(listener);
      }
      const onHeld = (connect: HeldConnect): void => handlers.held(workload, connect);
      // Last: from here on SYNs are taken.
      opened.#queue = new ConnectQueue({ workload, isLate: handlers.isLate, onHeld, onLost });
      return opened;
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  /** The connections that are accepted from here on are probed in this way. */
  probe(how: Probing): void {
    for (const part of this.#parts) part.probe(how);
  }

  /** Connects that wait. */
  get held(): number {
    return this.#queue?.size ?? 0;
  }

  /** Connects that wait are left to their clients, who send their SYN again. Accepted connections stay. */
  close(): void {
    if (this.#queue?.close() === true) setTimeout(() => this.#closeParts(), acceptMs);
    else this.#closeParts();
  }

  #closeParts(): void {
    this.#queue?.letGo();
    for (const part of this.#parts.splice(0)) part.close();
  }

  #accept(accepted: Accepted, workload: HostedWorkload, handlers: LateAcceptHandlers): void {
    const captured = capturedDestination(accepted);
    const waiting = captured.kind === 'redirected' ? this.#queue?.waiting(captured) : undefined;
    if (waiting === undefined) handlers.unheld(workload, accepted);
    else waiting.give(ApplicationSocket.accepted(Reactor.ofThread(), accepted.handle));
  }
}

/** Null where the namespace has no IPv6, so that no SYN comes by it either. */
function openListener(
  init: Parameters<typeof openLoopbackListener>[0] & { readonly host: (typeof loopback)[number] },
): ApplicationListener | null {
  try {
    return openLoopbackListener(init);
  } catch (error) {
    const code = error instanceof CulvertError ? error.code : '';
    if (init.host === '::1' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) return null;
    throw error;
  }
}
