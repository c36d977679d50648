import { getSystemErrorName } from 'node:util';
import { ipOfBytes, type HostPort } from '../../../shared/address.js';
import { desk, epollEvent } from '../../native/io-calls.js';
import type { Reactor, Turnable, Watched } from './reactor.js';
import { Timed } from './timer-wheel.js';

/** A connection that was accepted. The owner of the listener owns it. */
export type Accepted = {
  readonly handle: number;
  readonly peer: HostPort;
  /** Of a link-local peer the interface, otherwise 0. */
  readonly peerZone: number;
  /** This side; null where it was not asked for, or the peer has gone already. */
  readonly local: HostPort | null;
  /** Where the client wanted to go before a redirect, or the name of the errno with which the kernel does not say. */
  readonly dialled: HostPort | string;
  /** The client has closed the connection before it was accepted. Known where `dialled` is asked for. */
  readonly hasLeft: boolean;
};

export interface ListenerOwner {
  onConnection(accepted: Accepted): void;
  /**
   * This host has no room for another one (`EMFILE`, `ENOBUFS`, …). What waits is tried again every tenth of a second, and this
   * is told once, until one has been accepted.
   */
  onExhausted(code: string): void;
}

/** What is asked of the kernel for each connection: `local` also has the peer, and `dialled` both others. */
const questions = { peer: 0, local: 1, dialled: 2 } as const;
const tryAgainMs = 100;
const again = -11;
/** Words of what `ioAccept` puts on the desk. */
const at = { handle: 0, dialledError: 1, peer: 2, local: 7, dialled: 12, peerZone: 17, hasLeft: 18 } as const;

/** A listening socket. It accepts some connections in each round, so that they begin between what others do. */
export class IoListener implements Watched, Turnable {
  readonly handle: number;
  isQueued = false;
  readonly #reactor: Reactor;
  readonly #owner: ListenerOwner;
  readonly #wanted: keyof typeof questions;
  readonly #mostAtOnce: number;
  readonly #retry: Retry;
  /** Accepted, and not told yet. */
  readonly #accepted: Accepted[] = [];
  #isOpen = true;
  #isPaused = false;
  #isExhausted = false;

  private constructor(reactor: Reactor, handle: number, init: ListenerWish) {
    this.#reactor = reactor;
    this.handle = handle;
    this.#owner = init.owner;
    this.#wanted = init.wanted ?? 'peer';
    this.#mostAtOnce = Math.min(init.mostAtOnce ?? 16, desk.mostAccepted);
    this.#retry = new Retry(() => this.#goOn());
  }

  /**
   * Takes over a socket that listens, or is bound and to listen. Returns the errno by name where that cannot be; then the
   * descriptor is still the caller's.
   */
  static adopt(reactor: Reactor, fd: number, init: ListenerWish): IoListener | string {
    const handle = reactor.calls.ioAdopt(fd);
    if (handle < 0) return getSystemErrorName(handle);
    const listener = new IoListener(reactor, handle, init);
    const { backlog } = init;
    const listening = backlog === undefined ? 0 : reactor.calls.ioListen(handle, backlog);
    const result = listening < 0 ? listening : listener.#watch();
    if (result === 0) return listener;
    reactor.forget(listener);
    reactor.calls.ioRelease(handle);
    return getSystemErrorName(result);
  }

  /** The descriptor, for a question to the kernel; null when it is closed. */
  get fd(): number | null {
    const fd = this.#isOpen ? this.#reactor.calls.ioDescriptor(this.handle) : -1;
    return fd < 0 ? null : fd;
  }

  /** Leaves connections in the kernel's queue. */
  pause(): void {
    this.#isPaused = true;
    this.#goOn();
  }

  resume(): void {
    this.#isPaused = false;
    this.#goOn();
    if (this.#accepted.length > 0) this.#reactor.queue(this);
  }

  /** Those that were accepted and not told yet are reset: a FIN would look as if they had been served. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#reactor.timers.clear(this.#retry);
    this.#reactor.forget(this);
    for (const { handle } of this.#accepted.splice(0)) this.#reactor.calls.ioClose(handle, 1);
    this.#reactor.calls.ioClose(this.handle, 0);
  }

  onEvents(): void {
    if (!this.#isPaused) this.#reactor.queue(this);
  }

  onTurn(): void {
    if (!this.#isOpen || this.#isPaused) return;
    if (this.#accepted.length === 0) this.#accept();
    try {
      for (let next = this.#next(); next !== undefined; next = this.#next()) this.#owner.onConnection(next);
    } finally {
      // Of what the owner throws the others are not lost.
      if (this.#accepted.length > 0) this.#reactor.queue(this);
    }
  }

  #next(): Accepted | undefined {
    return this.#isPaused ? undefined : this.#accepted.shift();
  }

  #accept(): void {
    const { calls, words } = this.#reactor;
    const count = calls.ioAccept(this.handle, this.#mostAtOnce, questions[this.#wanted]);
    if (count < 0) {
      if (count !== again) this.#wait(count);
      return;
    }
    this.#isExhausted = false;
    for (let index = 0; index < count; index += 1) {
      const base = desk.accepted / 4 + index * desk.acceptedWords;
      const dialledError = words[base + at.dialledError] ?? 0;
      const hasLocal = this.#wanted !== 'peer' && (words[base + at.local] ?? 0) !== 0;
      this.#accepted.push({
        handle: words[base + at.handle] ?? 0,
        peer: this.#addressAt(base + at.peer),
        peerZone: words[base + at.peerZone] ?? 0,
        local: hasLocal ? this.#addressAt(base + at.local) : null,
        dialled: dialledError === 0 ? this.#addressAt(base + at.dialled) : getSystemErrorName(-dialledError),
        hasLeft: (words[base + at.hasLeft] ?? 0) !== 0,
      });
    }
  }

  /** For a negated errno: watches nothing until the next try, since what waits would be reported again at once. */
  #wait(number: number): void {
    const { timers } = this.#reactor;
    this.#reactor.calls.ioWatch(this.handle, 0);
    timers.set(this.#retry, performance.now() + tryAgainMs);
    this.#reactor.keepTime();
    if (this.#isExhausted) return;
    this.#isExhausted = true;
    this.#owner.onExhausted(getSystemErrorName(number));
  }

  #goOn(): void {
    if (!this.#isOpen) return;
    this.#reactor.timers.clear(this.#retry);
    const result = this.#watch();
    if (result < 0) this.#wait(result);
  }

  /** On level: what a round leaves is reported again. */
  #watch(): number {
    return this.#reactor.watch(this, this.#isPaused ? 0 : epollEvent.in);
  }

  /** A port, and an address of 16 bytes. */
  #addressAt(word: number): HostPort {
    const { memory, words } = this.#reactor;
    const bytes = memory.subarray(4 * word + 4, 4 * word + 20);
    return { ip: ipOfBytes(isIpv4(bytes) ? bytes.subarray(12) : bytes), port: words[word] ?? 0 };
  }
}

export type ListenerWish = {
  readonly owner: ListenerOwner;
  /** Which addresses it asks the kernel for; default: the peer's, which costs nothing. */
  readonly wanted?: keyof typeof questions;
  /** In one round; default 16, at most 64. */
  readonly mostAtOnce?: number;
  /** Connections that may wait to be accepted, bounded by net.core.somaxconn; default: as it is. */
  readonly backlog?: number;
};

class Retry extends Timed {
  readonly #onDue: () => void;

  constructor(onDue: () => void) {
    super();
    this.#onDue = onDue;
  }

  override onDue(): void {
    this.#onDue();
  }
}

/** IPv4-mapped (RFC 4291 section 2.5.5.2). */
function isIpv4(bytes: Uint8Array): boolean {
  return bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0);
}
