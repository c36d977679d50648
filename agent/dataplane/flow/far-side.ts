import type net from 'node:net';
import { acceptedFd } from '../../native/addon.js';
import { setProbing, tcpCondition, type Probing } from '../../native/tcp-life.js';
import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';

/** Whether the other end of a connection can still be reached. */
export interface FarSide {
  /** From now on it is asked at least this often. Called again and again. Throws `EBADF` when it is closed. */
  ask(everySeconds: number): void;
  /** It did not answer some of these questions. Throws like {@link ask}. */
  isGone(): boolean;
}

/** Questions without an answer after which it counts as gone, until it answers again. */
const unanswered = 3;
/** The agent never gives it up by itself: the kernel's greatest count. */
const neverGiveUp = 127;

/** On plain TCP: the kernel asks. `usual`: how it is probed anyway; null: not at all. */
export class PlainFarSide implements FarSide {
  readonly #socket: net.Socket;
  readonly #usual: Probing | null;
  #everySeconds = 0;

  constructor(init: { readonly socket: net.Socket; readonly usual: Probing | null }) {
    this.#socket = init.socket;
    this.#usual = init.usual;
  }

  ask(everySeconds: number): void {
    if (this.#everySeconds === everySeconds) return;
    this.#everySeconds = everySeconds;
    const seconds = Math.min(everySeconds, this.#usual?.idleSeconds ?? everySeconds);
    setProbing(acceptedFd(this.#socket), {
      idleSeconds: seconds,
      intervalSeconds: seconds,
      count: neverGiveUp,
      longestRetransmitMs: null,
    });
  }

  isGone(): boolean {
    return tcpCondition(acceptedFd(this.#socket)).unansweredProbes >= unanswered;
  }
}

/** Behind a tunnel, whose PINGs ask. A tunnel that stays gone ends by itself, with all its connections. */
export class TunnelFarSide implements FarSide {
  readonly #pulse: TunnelPulse;
  #everyMs = 0;

  constructor(pulse: TunnelPulse) {
    this.#pulse = pulse;
  }

  ask(everySeconds: number): void {
    this.#everyMs = everySeconds * 1000;
    this.#pulse.hurry(this.#everyMs);
  }

  isGone(): boolean {
    return this.#pulse.unansweredMs >= unanswered * this.#everyMs;
  }
}
