import type net from 'node:net';

/** Between the ends of two connections. */
const betweenMs = 10;
/** With more of them the oldest ends at once. One costs a descriptor and some kilobytes, and nothing of the thread. */
const mostWaiting = 4096;

/**
 * Ends connections that lost their places one after the other. A client that opens them again at once then has a few new ones
 * in the kernel's queue, in place of thousands: the queue is in the order of arrival, one is accepted in a turn of the event
 * loop, and an honest client waits for all before it.
 */
export class SlowEnds {
  /** In the order in which they came. */
  readonly #waiting = new Set<net.Socket>();
  #timer: NodeJS.Timeout | null = null;

  get size(): number {
    return this.#waiting.size;
  }

  add(socket: net.Socket): void {
    this.#waiting.add(socket);
    socket.once('close', () => this.#waiting.delete(socket));
    if (this.#waiting.size > mostWaiting) this.#endFirst();
    this.#goOn();
  }

  endAll(): void {
    for (const socket of this.#waiting) socket.destroy();
    this.#waiting.clear();
  }

  #endFirst(): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    this.#waiting.delete(first);
    first.destroy();
  }

  #goOn(): void {
    if (this.#timer !== null || this.#waiting.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#endFirst();
      this.#goOn();
    }, betweenMs);
  }
}
