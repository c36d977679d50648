import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { acceptedFd, resetFd } from '../../native/addon.js';
import { duplicate } from '../../native/passed-sockets.js';
import { Reactor } from '../io/reactor.js';
import type { WorkerLink } from '../messages.js';
import { ApplicationSocket } from '../relay/application-socket.js';
import type { CapturedDestination } from './captured-destination.js';

/** An application's connection that was accepted for another worker to serve. */
export type PassedConnection = {
  /** The port that it was accepted on. */
  readonly entry: 'outbound' | 'inboundPlaintext';
  readonly workload: WorkloadName;
  readonly captured: CapturedDestination;
  /** Of its source and destination, in `OpeningOrder`. */
  readonly key: string;
};

/** The same of another agent's. They have no order. */
export type PassedTunnel = { readonly entry: 'inboundTunnel'; readonly workload: WorkloadName };

type Message =
  | ((PassedConnection | PassedTunnel) & {
      readonly type: 'connection';
      readonly fd: number;
      readonly sequence: number;
    })
  /** The connection is open, or refused. */
  | { readonly type: 'opened'; readonly sequence: number }
  /** No more connections follow. */
  | { readonly type: 'last' };

type Link = {
  readonly port: MessagePort;
  /** How many connections the other worker has taken from this one. Shared, so that it is known after the other's death. */
  readonly takenByOther: Int32Array;
  readonly takenHere: Int32Array;
  sent: number;
  /** By sequence: what the other worker has not opened yet. */
  readonly pending: Map<number, { readonly fd: number; readonly key: string | null }>;
  /** Resolves when the other worker will pass no more connections. */
  readonly lastCame: Promise<void>;
  readonly onLast: () => void;
};

/**
 * Passes accepted connections to the other workers of this process. The descriptor is the same in all threads, so only its
 * number is sent. Until the other worker takes it, it is this worker's: when the other dies before, it is reset here.
 */
export class WorkerLinks {
  readonly #links = new Map<number, Link>();
  readonly #onConnection: (connection: PassedConnection, socket: ApplicationSocket, opened: () => void) => void;
  readonly #onTunnel: (tunnel: PassedTunnel, socket: net.Socket) => void;
  readonly #onFailed: (connection: PassedConnection, code: string) => void;
  readonly #onOpened: (key: string) => void;
  readonly #onLost: (workerIndex: number) => void;
  #isFinished = false;

  constructor(init: {
    /** Another worker passed this connection, which is the receiver's. */
    readonly onConnection: (connection: PassedConnection, socket: ApplicationSocket, opened: () => void) => void;
    /** The same of another agent's connection: a paused socket. */
    readonly onTunnel: (tunnel: PassedTunnel, socket: net.Socket) => void;
    /** A connection that another worker passed cannot be served here, for this errno by name, and has been reset. */
    readonly onFailed: (connection: PassedConnection, code: string) => void;
    readonly onOpened: (key: string) => void;
    readonly onLost: (workerIndex: number) => void;
  }) {
    this.#onConnection = init.onConnection;
    this.#onTunnel = init.onTunnel;
    this.#onFailed = init.onFailed;
    this.#onOpened = init.onOpened;
    this.#onLost = init.onLost;
  }

  /** The workers that connections can be passed to. */
  get others(): Iterable<number> {
    return this.#links.keys();
  }

  get isAlone(): boolean {
    return this.#links.size === 0 || this.#isFinished;
  }

  /** A worker has started, perhaps in place of one that died. */
  add({ workerIndex, port, takenByOther, takenHere }: WorkerLink): void {
    this.#links.get(workerIndex)?.port.close();
    const link: Link = {
      port,
      takenByOther: new Int32Array(takenByOther),
      takenHere: new Int32Array(takenHere),
      sent: 0,
      pending: new Map(),
      ...latch(),
    };
    this.#links.set(workerIndex, link);
    port.on('message', (message: Message) => this.#receive(link, message));
    port.on('close', () => this.#forget(workerIndex, link));
  }

  /**
   * Passes no more connections. Resolves when no more come from the others, which have to do the same, or after `withinMs`.
   */
  async finish(withinMs: number): Promise<void> {
    this.#isFinished = true;
    const links = [...this.#links.values()];
    for (const { port } of links) port.postMessage({ type: 'last' } satisfies Message, []);
    const tooLong = new AbortController();
    const deadline = delay(withinMs, undefined, { signal: tooLong.signal }).catch(() => undefined);
    await Promise.race([Promise.all(links.map(({ lastCame }) => lastCame)), deadline]);
    tooLong.abort();
  }

  /** Takes over the socket. False, and nothing is changed, if the worker has gone or the socket cannot be passed. */
  pass(workerIndex: number, connection: PassedConnection, socket: ApplicationSocket): boolean;
  pass(workerIndex: number, tunnel: PassedTunnel, socket: net.Socket): boolean;
  pass(
    workerIndex: number,
    connection: PassedConnection | PassedTunnel,
    socket: ApplicationSocket | net.Socket,
  ): boolean {
    const link = this.#links.get(workerIndex);
    if (link === undefined || this.#isFinished) return false;
    const fd = socket instanceof ApplicationSocket ? socket.release() : descriptorOf(socket);
    if (fd === null) return false;
    link.sent += 1;
    link.pending.set(link.sent, { fd, key: 'key' in connection ? connection.key : null });
    link.port.postMessage({ ...connection, type: 'connection', fd, sequence: link.sent } satisfies Message, []);
    return true;
  }

  #receive(link: Link, message: Message): void {
    if (message.type === 'opened') {
      const pending = link.pending.get(message.sequence);
      link.pending.delete(message.sequence);
      if (pending !== undefined && pending.key !== null) this.#onOpened(pending.key);
      return;
    }
    if (message.type === 'last') {
      link.onLast();
      return;
    }
    const { fd, sequence, ...connection } = message;
    Atomics.store(link.takenHere, 0, sequence);
    const opened = (): void => link.port.postMessage({ type: 'opened', sequence } satisfies Message, []);
    if (connection.entry !== 'inboundTunnel') {
      const socket = ApplicationSocket.received(Reactor.ofThread(), fd);
      if (typeof socket !== 'string') {
        this.#onConnection(connection, socket, opened);
        return;
      }
      opened();
      this.#onFailed(connection, socket);
      return;
    }
    this.#onTunnel(connection, socketOf(fd));
    opened();
  }

  /** The other thread has ended. What it took ended with it. */
  #forget(workerIndex: number, link: Link): void {
    if (this.#links.get(workerIndex) === link) this.#links.delete(workerIndex);
    const taken = Atomics.load(link.takenByOther, 0);
    for (const [sequence, { fd }] of link.pending) if (sequence > taken) resetFd(fd);
    link.pending.clear();
    link.onLast();
    this.#onLost(workerIndex);
  }
}

function latch(): Pick<Link, 'lastCame' | 'onLast'> {
  let onLast: () => void = () => {};
  const lastCame = new Promise<void>((resolve) => (onLast = resolve));
  return { lastCame, onLast };
}

/** A copy of its descriptor, and closes it; null if it is closed. */
function descriptorOf(socket: net.Socket): number | null {
  try {
    const fd = duplicate(acceptedFd(socket));
    socket.destroy();
    return fd;
  } catch {
    return null;
  }
}

/** As an accepted socket of a server with `pauseOnConnect` (Node: lib/net.js). */
function socketOf(fd: number): net.Socket {
  const options: net.SocketConstructorOpts & { readonly pauseOnCreate: true } = {
    fd,
    pauseOnCreate: true,
    allowHalfOpen: true,
    readable: true,
    writable: true,
  };
  return new net.Socket(options);
}
