import type { KeepalivePolicy } from '../../../shared/policy/traffic-documents.js';
import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';
import { TunnelFarSide } from './far-side.js';

/** A connection through a tunnel is looked at every second where its endpoint counts as gone after less. */
const hurriedSeconds = 60;

/** When an endpoint behind a tunnel counts as gone, as a document says: there is no socket for each connection, and PINGs ask. */
export class TunnelSilence {
  readonly #pulse: TunnelPulse;
  readonly #far: TunnelFarSide;
  readonly #everySeconds: number;
  readonly #silenceSeconds: number;

  constructor(pulse: TunnelPulse, { idleSeconds, everySeconds, probes }: KeepalivePolicy) {
    this.#pulse = pulse;
    this.#far = new TunnelFarSide(pulse);
    this.#everySeconds = Math.min(idleSeconds, everySeconds);
    this.#silenceSeconds = idleSeconds + everySeconds * probes;
  }

  /** It is to be asked about every second. */
  get isHurried(): boolean {
    return this.#silenceSeconds < hurriedSeconds;
  }

  /** Whether the other agent has not answered for as long as the document says. To be called every few seconds. */
  isGone(): boolean {
    this.#far.ask(this.#everySeconds);
    // The PING that waits went out a pause after the last answer, at most.
    return this.#pulse.unansweredMs >= (this.#silenceSeconds - this.#everySeconds) * 1000;
  }
}
