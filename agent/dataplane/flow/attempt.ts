import { formatHostPort, type HostPort } from '../../../shared/address.js';
import { notAsked, unreachable, type Refused } from '../connection/ending.js';
import { OwnWaits } from '../connection/own-waits.js';
import { longestTimerMs } from '../../thread/scheduler.js';
import { ConnectionCut, TerminationSignal } from '../connection/termination-signal.js';

/**
 * `by`: the field of a document that says it, for the record. `wholeMs`: what an endpoint gets that is tried first, where this
 * is what others left; absent: the same.
 */
export type AttemptLimit = { readonly afterMs: number; readonly by: string; readonly wholeMs?: number };

/** The shortest of several limits; null: there is none. */
export function shortest(...limits: readonly (AttemptLimit | null)[]): AttemptLimit | null {
  return limits.reduce((a, b) => (a === null || (b !== null && b.afterMs < a.afterMs) ? b : a), null);
}

/**
 * The connect to one endpoint, with a time limit of its own: when it is over, this attempt alone is given up, and another
 * endpoint may be tried. It is given up with the connection, too.
 */
export class Attempt {
  readonly #waits = new OwnWaits();
  readonly signal = new TerminationSignal(this.#waits);
  readonly #connection: TerminationSignal;
  readonly #limit: AttemptLimit;
  readonly #timer: NodeJS.Timeout;
  readonly #onCut: () => void;
  #isLate = false;
  #askedForMs = 0;
  #isOver = false;

  /** The caller ends it. */
  constructor(connection: TerminationSignal, limit: AttemptLimit) {
    this.#connection = connection;
    this.#limit = limit;
    this.#onCut = () => {
      if (connection.cut !== null) this.signal.raise(connection.cut);
    };
    if (connection.cut === null) connection.onCut(this.#onCut);
    else this.#onCut();
    // A thread that stood still reads first what came meanwhile.
    this.#timer = setTimeout(() => setImmediate(() => this.#giveUp()), Math.min(limit.afterMs, longestTimerMs));
  }

  #giveUp(): void {
    if (this.#isOver) return;
    this.#isLate = true;
    this.#askedForMs = this.#waits.askedForMs;
    this.signal.raise(new ConnectionCut({ reason: 'CONNECT_TIMEOUT' }));
  }

  /**
   * What became of it, where the endpoint was not reached in time. It is blamed where it had half of the time at least, also of
   * the time that it would have had without those before it.
   */
  end<T extends { readonly ok: true }>(result: T | Refused, address: HostPort): T | Refused {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#connection.offCut(this.#onCut);
    if (result.ok || !this.#isLate || this.#connection.cut !== null) return result;
    const { by, afterMs, wholeMs = afterMs } = this.#limit;
    const detail = `ETIMEDOUT ${formatHostPort(address)}: ${by}`;
    if (this.#askedForMs < afterMs / 2) {
      return notAsked('CONNECT_TIMEOUT', `${detail}, most of it in a line of this agent`);
    }
    if (this.#askedForMs >= wholeMs / 2) return unreachable('CONNECT_TIMEOUT', detail);
    return notAsked('CONNECT_TIMEOUT', `${detail}, of which the endpoints before it left ${Math.round(afterMs)} ms`);
  }
}
