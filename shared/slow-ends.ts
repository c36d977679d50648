import type net from 'node:net';
import { openFilesLimit } from './open-files.js';

/** Held at most, and of the process's descriptors. One costs a descriptor and some kilobytes, and nothing of the thread. */
const mostHeld = 4096;
const heldPart = 1 / 4;
/** A held connection waits for less than this, as long as the thread is not busy: many end at a higher pace. */
const longestMs = 8000;

/** In place of a socket of Node: a connection that nothing but its holder closes. */
export interface HeldConnection {
  readonly isClosed: boolean;
  close(): void;
}

/** A connection that has to end, and who it counts for. */
export type SlowEnd = {
  readonly socket: net.Socket | HeldConnection;
  /** See `sourceOf`. Sources take turns. */
  readonly source: string;
  /** Those of one group can be ended together; default: none. */
  readonly group?: string;
  /** Ends the socket; default: destroys or closes it. */
  readonly end?: () => void;
};

/**
 * Ends connections that were refused, or lost their places, one after the other. A client that opens them again at once then
 * has a few new ones in the kernel's queue, in place of thousands: the queue is in the order of arrival, one is accepted in a
 * turn of the event loop, and an honest client waits for all before it. Each also costs the thread what it costs to refuse it.
 *
 * Sources take turns, so a client waits for its own connections and not for those of a flood. When too many are held, one ends
 * at once of the source that has the most.
 */
export class SlowEnds implements Disposable {
  readonly #most: number;
  readonly #everyMs: number;
  readonly #atOnce: number;
  /** What is held, by source in the order of turns, and of a source in the order of arrival. */
  readonly #sources = new Map<string, Map<SlowEnd['socket'], SlowEnd>>();
  #size = 0;
  /** The most that were held since there was none. */
  #peak = 0;
  #timer: NodeJS.Timeout | null = null;
  /** When as many may end at once again as at the beginning. */
  #restedAtMs = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  constructor(
    init: {
      /** Held at most; default: 4,096, or a part of the descriptors where the process has few. */
      readonly most?: number;
      /** How many objects, in all threads, have that part together; default: this one. */
      readonly sharers?: number;
      /** Between two ends; default: 10. */
      readonly everyMs?: number;
      /** What {@link end} ends without holding it, until that many came faster than one in `everyMs`; default: none. */
      readonly atOnce?: number;
    } = {},
  ) {
    this.#most = init.most ?? Math.min(mostHeld, Math.floor((openFilesLimit() * heldPart) / (init.sharers ?? 1)));
    this.#everyMs = init.everyMs ?? 10;
    this.#atOnce = init.atOnce ?? 0;
  }

  /** Held connections. */
  get size(): number {
    return this.#size;
  }

  /** Ends a connection now, as long as ends are rare, and otherwise as {@link hold} does. */
  end(what: SlowEnd): void {
    if (this.#size === 0 && this.#mayEndNow()) finish(what);
    else this.hold(what);
  }

  /** Ends a connection in its turn. The socket belongs to this object until then. */
  hold(what: SlowEnd): void {
    const { socket, source } = what;
    if (this.#isClosed || isOver(socket)) {
      finish(what);
      return;
    }
    const own = this.#sources.get(source) ?? new Map<SlowEnd['socket'], SlowEnd>();
    own.set(socket, what);
    this.#sources.set(source, own);
    this.#size += 1;
    this.#peak = Math.max(this.#peak, this.#size);
    if (isNodes(socket)) socket.once('close', () => this.#take(what));
    if (this.#size > this.#most) this.#endFirstOf(this.#largest());
    this.#goOn();
  }

  /** Ends those of one group, or all, now. */
  endAll(group?: string): void {
    for (const own of this.#sources.values()) {
      for (const what of own.values()) if (group === undefined || what.group === group) this.#finish(what);
    }
  }

  /** Ends all now, and what comes later at once. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.endAll();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** A bucket of `atOnce` tokens, as the time at which it will be full again. */
  #mayEndNow(): boolean {
    const nowMs = performance.now();
    const restedAtMs = Math.max(this.#restedAtMs, nowMs) + this.#everyMs;
    if (restedAtMs - nowMs > this.#atOnce * this.#everyMs) return false;
    this.#restedAtMs = restedAtMs;
    return true;
  }

  #goOn(): void {
    if (this.#timer !== null || this.#size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const due = Math.ceil((this.#peak * this.#everyMs) / longestMs);
      for (let ended = 0; ended < due && this.#size > 0; ended++) this.#endNext();
      this.#goOn();
    }, this.#everyMs);
  }

  #endNext(): void {
    const [next] = this.#sources;
    if (next === undefined) return;
    const [source, own] = next;
    // To the end.
    this.#sources.delete(source);
    this.#sources.set(source, own);
    this.#endFirstOf(own);
  }

  #endFirstOf(own: ReadonlyMap<SlowEnd['socket'], SlowEnd> | null): void {
    const [first] = own?.values() ?? [];
    if (first !== undefined) this.#finish(first);
  }

  #largest(): ReadonlyMap<SlowEnd['socket'], SlowEnd> | null {
    let largest: ReadonlyMap<SlowEnd['socket'], SlowEnd> | null = null;
    for (const own of this.#sources.values()) if (own.size > (largest?.size ?? 0)) largest = own;
    return largest;
  }

  #finish(what: SlowEnd): void {
    this.#take(what);
    finish(what);
  }

  #take({ socket, source }: SlowEnd): void {
    const own = this.#sources.get(source);
    if (own?.delete(socket) !== true) return;
    if (own.size === 0) this.#sources.delete(source);
    this.#size -= 1;
    if (this.#size === 0) this.#peak = 0;
  }
}

function finish({ socket, end }: SlowEnd): void {
  if (end !== undefined) end();
  else if (isNodes(socket)) socket.destroy();
  else socket.close();
}

function isNodes(socket: SlowEnd['socket']): socket is net.Socket {
  return 'destroyed' in socket;
}

function isOver(socket: SlowEnd['socket']): boolean {
  return isNodes(socket) ? socket.destroyed : socket.isClosed;
}
