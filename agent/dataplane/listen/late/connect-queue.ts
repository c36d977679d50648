import type net from 'node:net';
import { giveVerdict, openSynQueue } from '../../../native/syn-queue.js';
import { synQueueNumber } from '../../../ports.js';
import { parseQueuedPacket, verdictOn, type QueuedPacket, type Verdict } from '../../sockets/queue-messages.js';
import type { OriginalDestination } from '../../sockets/socket-addresses.js';
import type { HostedWorkload } from '../hosted-workload.js';
import { connectKey, HeldConnect, type HoldingQueue } from './held-connect.js';

/** Connects of one workload that are held at once; the SYN of another one is dropped, as with a full accept queue. */
export const mostHeld = 1024;
/** SYNs that the kernel keeps. The rest is room for those that need not wait, and for those that were sent again. */
const mostQueued = 4 * mostHeld;
/** How often it is asked whether a client is still there that did not take its connection. */
const sweepMs = 1000;

/**
 * The connects of one workload that wait for their far side. Each SYN to a port that some destination accepts late comes
 * here. It goes on at once when its own destination accepts early, or when no client is in connect(2) for it, because a far
 * connection is opened for sockets only. A SYN that goes on takes the way of SYNs to other ports. So a forged one
 * (CAP_NET_RAW) costs the agent nothing: the kernel answers its source, which did not ask. One that repeats the SYN of an
 * open connection reaches that connection.
 */
export class ConnectQueue {
  readonly #workload: HostedWorkload;
  readonly #isLate: (dialled: OriginalDestination) => boolean;
  readonly #onHeld: (connect: HeldConnect) => void;
  readonly #held = new Map<string, HeldConnect>();
  readonly #socket: net.Socket;
  readonly #hold: HoldingQueue;
  #sweep: NodeJS.Timeout | null = null;
  #isOpen = true;

  /** Throws like {@link openSynQueue}. `onLost`: the kernel ended the queue. */
  constructor(init: {
    readonly workload: HostedWorkload;
    readonly isLate: (dialled: OriginalDestination) => boolean;
    readonly onHeld: (connect: HeldConnect) => void;
    readonly onLost: (error: Error) => void;
  }) {
    this.#workload = init.workload;
    this.#isLate = init.isLate;
    this.#onHeld = init.onHeld;
    this.#hold = {
      decide: (packet, verdict) => this.#decide(packet, verdict),
      leave: (connect) => this.#held.delete(connectKey(connect)),
    };
    this.#socket = openSynQueue({
      netnsFd: init.workload.netnsFd,
      number: synQueueNumber,
      maxLength: mostQueued,
      onMessage: (message) => this.#onMessage(message),
    });
    this.#socket.on('error', (error) => {
      if (this.#isOpen) init.onLost(error);
    });
  }

  /** Connects that wait. */
  get size(): number {
    return this.#held.size;
  }

  /** The connect that waits for this connection; undefined: none does. */
  waiting(connection: Pick<HeldConnect, 'client' | 'dialled'>): HeldConnect | undefined {
    const held = this.#held.get(connectKey(connection));
    return held?.isAccepting === true ? held : undefined;
  }

  /**
   * Drops all SYNs that wait, and lets their connects go. Returns whether some have a SYN that had gone on: these are still
   * {@link waiting}, until {@link letGo}.
   */
  close(): boolean {
    this.#isOpen = false;
    if (this.#sweep !== null) clearInterval(this.#sweep);
    this.#socket.destroy();
    for (const connect of this.#held.values()) if (!connect.isAccepting) connect.letGo();
    return this.#held.size > 0;
  }

  /** After {@link close}: lets the rest go. */
  letGo(): void {
    for (const connect of this.#held.values()) connect.letGo();
  }

  #onMessage(message: Buffer): void {
    const packet = parseQueuedPacket(message);
    if (packet === null) return;
    const { syn } = packet;
    if (syn === null || !this.#isLate(syn.dialled)) {
      this.#decide(packet, { kind: 'pass' });
      return;
    }
    const known = this.#held.get(connectKey(syn));
    if (known !== undefined) {
      known.decide(packet);
      return;
    }
    if (!this.#isConnecting(syn)) {
      this.#decide(packet, { kind: 'pass' });
      return;
    }
    if (this.#held.size >= mostHeld) {
      this.#decide(packet, { kind: 'drop' });
      return;
    }
    const connect = new HeldConnect({ packet, ...syn, queue: this.#hold });
    this.#held.set(connectKey(connect), connect);
    this.#sweep ??= setInterval(() => this.#giveUpLeft(), sweepMs).unref();
    this.#onHeld(connect);
  }

  #decide(packet: QueuedPacket, verdict: Verdict): void {
    if (this.#isOpen) giveVerdict(this.#socket, verdictOn(packet, synQueueNumber, verdict));
  }

  /** A client that gave up meanwhile sends nothing: its kernel just has no socket for the answer any more. */
  #giveUpLeft(): void {
    for (const connect of this.#held.values()) {
      if (connect.isAccepting && !this.#isThere(connect)) connect.give(null);
    }
    if (this.#held.size > 0 || this.#sweep === null) return;
    clearInterval(this.#sweep);
    this.#sweep = null;
  }

  #isConnecting({ client, dialled }: Pick<HeldConnect, 'client' | 'dialled'>): boolean {
    try {
      return this.#workload.sockets.find({ local: client, remote: dialled })?.isConnecting === true;
    } catch {
      // The kernel does not tell (CONFIG_INET_TCP_DIAG), and late accept is not to end there.
      return true;
    }
  }

  #isThere({ client, dialled }: HeldConnect): boolean {
    try {
      return this.#workload.sockets.find({ local: client, remote: dialled }) !== null;
    } catch {
      // The kernel does not tell (CONFIG_INET_TCP_DIAG). A client that is there has been accepted within a sweep.
      return false;
    }
  }
}
