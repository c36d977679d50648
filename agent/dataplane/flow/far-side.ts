import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';
import { unansweredProbes, type ProbedSocket } from './probed-socket.js';

/** Whether the other end of a connection can still be reached. */
export interface FarSide {
  /** From now on it is asked at least this often. Called again and again. Throws `EBADF` when it is closed. */
  ask(everySeconds: number): void;
  /** It did not answer some of these questions. Throws like {@link ask}. */
  isGone(): boolean;
}

/** The kernel's times are whole ticks, and ours are read a moment later. */
const toleranceMs = 500;

/** On plain TCP: the kernel asks. */
export class PlainFarSide implements FarSide {
  readonly #probed: ProbedSocket;
  /** When it last answered, while it is gone. */
  #heardAtMs: number | null = null;

  constructor(probed: ProbedSocket) {
    this.#probed = probed;
  }

  ask(everySeconds: number): void {
    this.#probed.ask(everySeconds);
  }

  isGone(): boolean {
    const condition = this.#probed.condition();
    const heardAtMs = performance.now() - condition.unheardMs;
    // The kernel's count begins again at 0 after 255 probes: only an answer ends it.
    const isStillGone = this.#heardAtMs !== null && heardAtMs <= this.#heardAtMs + toleranceMs;
    if (condition.unansweredProbes >= unansweredProbes) this.#heardAtMs = heardAtMs;
    else if (!isStillGone) this.#heardAtMs = null;
    return this.#heardAtMs !== null;
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
    return this.#pulse.unansweredMs >= unansweredProbes * this.#everyMs;
  }
}
