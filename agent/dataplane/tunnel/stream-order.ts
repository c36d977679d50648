import type { ClientTunnel } from './client-tunnel.js';
import { WaitingLine, type WaitForTunnel } from './waiting-line.js';

/**
 * How long a wait goes on while no CONNECT is answered: more than a round trip around the world. Then the other agent is
 * asked, because on a busy machine it may not have come to the CONNECTs yet, and has as long again from its answer on. The
 * order of connections that take longer is worth less than their delay. Where answers come, however slowly, the next ones
 * stand in the line.
 */
const longestSilenceMs = 250;
/** An agent that needed long for its answer to the question gets this many times as long for a CONNECT. */
const patience = 4;
/** The longest time for the answer to the question, and after it. */
const longestBusyMs = 2000;

/**
 * Keeps the streams to one port of an application in the order in which they were asked for. Streams of one tunnel stay in
 * order: one connection carries their CONNECTs, and one worker of the other agent answers them. Streams of two tunnels do
 * not. So while a CONNECT is not answered, the next ones follow it through the same tunnel; when that has no more room,
 * they wait for the answers in {@link line}, and go on in the order in which they came.
 */
export class StreamOrder {
  /** Requests that found no room, and later ones behind them. */
  readonly line = new WaitingLine();
  #tunnel: ClientTunnel | null = null;
  #unanswered = 0;
  #allAnswered: {
    readonly promise: WaitForTunnel;
    readonly resolve: (ended: null) => void;
    /** Undefined while the other agent is asked. */
    timer: NodeJS.Timeout | undefined;
  } | null = null;

  get isIdle(): boolean {
    return this.#unanswered === 0 && this.line.isEmpty;
  }

  /** The tunnel to use where the pool would take `free`; null when the answers must come first. */
  choose(free: ClientTunnel | undefined): ClientTunnel | undefined | null {
    if (this.#tunnel === null || free === this.#tunnel) return free;
    return this.#tunnel.hasRoom ? this.#tunnel : null;
  }

  sent(tunnel: ClientTunnel): void {
    this.#tunnel = tunnel;
    this.#unanswered += 1;
  }

  answered(): void {
    this.#unanswered -= 1;
    if (this.#unanswered === 0) this.#endWait();
    else if (this.#allAnswered !== null) this.#waitAgain(this.#allAnswered);
  }

  /** Ends when every CONNECT is answered, or when no answer comes any more. */
  allAnswered(): WaitForTunnel {
    if (this.#allAnswered === null) {
      let resolve: (ended: null) => void = () => {};
      const promise: WaitForTunnel = new Promise((settle) => (resolve = settle));
      this.#allAnswered = { promise, resolve, timer: this.#newTimer() };
    }
    return this.#allAnswered.promise;
  }

  #waitAgain(wait: { timer: NodeJS.Timeout | undefined }): void {
    clearTimeout(wait.timer);
    wait.timer = this.#newTimer();
  }

  #newTimer(): NodeJS.Timeout {
    return this.#afterSilence(longestSilenceMs, () => void this.#askOther());
  }

  async #askOther(): Promise<void> {
    const wait = this.#allAnswered;
    if (wait === null) return;
    clearTimeout(wait.timer);
    wait.timer = undefined;
    const askedAtMs = performance.now();
    await this.#tunnel?.answersPing(longestBusyMs);
    // Otherwise an answer has come, or all.
    if (wait !== this.#allAnswered || wait.timer !== undefined) return;
    const tookMs = performance.now() - askedAtMs;
    const graceMs = Math.min(longestBusyMs, Math.max(longestSilenceMs, patience * tookMs));
    wait.timer = this.#afterSilence(graceMs, () => this.#endWait());
  }

  /** Answers that have arrived while this thread did something else, or did not get the processor, are read first. */
  #afterSilence(ms: number, then: () => void): NodeJS.Timeout {
    const unlessAnswered = (): void => {
      if (this.#allAnswered?.timer === timer) then();
    };
    const timer = setTimeout(() => setImmediate(unlessAnswered), ms);
    return timer;
  }

  #endWait(): void {
    this.#tunnel = null;
    if (this.#allAnswered === null) return;
    clearTimeout(this.#allAnswered.timer);
    this.#allAnswered.resolve(null);
    this.#allAnswered = null;
  }
}
