import type { TerminationSignal } from '../../connection/termination-signal.js';
import type { ApplicationSocket } from '../../relay/application-socket.js';
import type { QueuedPacket, Verdict } from '../../sockets/queue-messages.js';
import type { OriginalDestination, PeerAddress } from '../../sockets/socket-addresses.js';
import { synMarks } from '../../../ports.js';

/** What a held connect needs of the queue that it waits in. */
export type HoldingQueue = {
  readonly decide: (packet: QueuedPacket, verdict: Verdict) => void;
  /** It no longer waits. */
  readonly leave: (connect: HeldConnect) => void;
};

/**
 * A client in connect(2), whose SYN waits for a verdict. The first verdict counts. After its queue was closed all of them do
 * nothing: the client sends its SYN again.
 */
export class HeldConnect {
  readonly client: PeerAddress;
  readonly dialled: OriginalDestination;
  readonly #packet: QueuedPacket;
  readonly #queue: HoldingQueue;
  #isAccepting = false;
  #isOver = false;
  #isLetGo = false;
  #take: (socket: ApplicationSocket | null) => void = () => {};

  constructor(init: {
    readonly packet: QueuedPacket;
    readonly client: PeerAddress;
    readonly dialled: OriginalDestination;
    readonly queue: HoldingQueue;
  }) {
    this.client = init.client;
    this.dialled = init.dialled;
    this.#packet = init.packet;
    this.#queue = init.queue;
  }

  /** Its SYN has gone on, and it is not accepted yet. */
  get isAccepting(): boolean {
    return this.#isAccepting;
  }

  /** Its queue was closed. */
  get isLetGo(): boolean {
    return this.#isLetGo;
  }

  /**
   * Lets the client connect. Resolves with the accepted connection, which the caller owns from then on; with null when
   * the client has left, the connection was cut, or the queue was closed. One that was cut before still waits.
   */
  async accept(signal: TerminationSignal): Promise<ApplicationSocket | null> {
    if (this.#isOver || signal.cut !== null) return null;
    const onCut = (): void => this.give(null);
    signal.onCut(onCut);
    const accepted = new Promise<ApplicationSocket | null>((resolve) => (this.#take = resolve));
    this.#isAccepting = true;
    this.decide(this.#packet);
    const socket = await accepted;
    signal.offCut(onCut);
    return socket;
  }

  /** The client's connect fails with ECONNREFUSED. */
  refuse(): void {
    this.#end({ kind: 'pass', mark: synMarks.refused });
  }

  /** As if the SYN was lost: the client sends it again, and gives up with ETIMEDOUT in the end. */
  forget(): void {
    this.#end({ kind: 'drop' });
  }

  /** For the queue: a SYN of this connect, the first one or one that the client sent again. */
  decide(packet: QueuedPacket): void {
    this.#queue.decide(packet, this.#isAccepting ? { kind: 'pass', mark: synMarks.accepted } : { kind: 'drop' });
  }

  /** For the queue: the accepted connection, or null when there will be none. */
  give(socket: ApplicationSocket | null): void {
    if (this.#isOver) {
      socket?.close();
      return;
    }
    this.#isOver = true;
    this.#queue.leave(this);
    this.#take(socket);
  }

  /** For the queue, which is being closed. */
  letGo(): void {
    this.#isLetGo = true;
    this.give(null);
  }

  #end(verdict: Verdict): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#queue.leave(this);
    // After accept the kernel has its verdict.
    if (!this.#isAccepting) this.#queue.decide(this.#packet, verdict);
  }
}

/** The same for a SYN and for the connection that it becomes. */
export function connectKey({ client, dialled }: Pick<HeldConnect, 'client' | 'dialled'>): string {
  return `${client.ip} ${client.port} ${dialled.ip} ${dialled.port}`;
}
