import { reasonByBrokenSide } from '../connection/failure-reasons.js';
import type { RelayCounters, RelayOutcome, Side } from './relay-outcome.js';
import type { Breakage, RelayPeer } from './relay-peer.js';

/** The first look for an end that may cross a reset; each further wait is twice as long as the one before. */
const firstWaitMs = 5;
/**
 * How long an end may come after the reset that it crossed. The end may cross hosts, and the application has to run for it,
 * which takes its time on a busy machine. The reset waits for this time, and only while the other side says no more than
 * last words. The wait for an open client is short, because the client learns of the reset late. A server whose client is
 * gone loses nothing. The other side of one that had ended has read that end and waits for nothing more: PostgreSQL's
 * server says goodbye to a client that has closed, and then takes as long as its process takes to exit.
 */
const longestWaitMs = { destination: 20, source: 80, ended: 320 } as const;
/**
 * What a side may still send after the other has ended, and be at its end all the same: the last words of a protocol, such
 * as the alert that closes TLS (31 bytes) or `221 Bye`. An answer that was cut off is longer. A goodbye of this length needs
 * no answer either: PostgreSQL's client sends 51 bytes with TLS 1.3 and up to 170 with older ciphers. A longer
 * request does.
 */
const lastWordsBytes = 256;

type Doubt = {
  readonly side: Side;
  readonly breakage: Breakage;
  /** What the other side had sent when this one broke. */
  readonly otherSentBytes: number;
  readonly heldBytes: number;
  /** The next look. */
  timer?: NodeJS.Timeout | undefined;
};

/**
 * Tells an abort from an end, when a side is reset. The kernel also sends RST for an application that has finished and
 * closes its socket with the last bytes of its peer unread: every PostgreSQL session with TLS ends so, because the client
 * says goodbye twice. Such a connection has ended, with reason OK: the other side has closed its direction by itself, all
 * its bytes were handed over, and this side had said all but its last words. A server must have answered, too: one that
 * resets after a request, in place of an answer, aborts. A client owes no answer. What this side has said must have left for the
 * other one: what waits for it, or for a rate, is lost with the reset, unless that one has gone by itself.
 *
 * The two ends cross on their way. If the other side is open and silent, its end may be under way, so the reset waits
 * ({@link longestWaitMs}). If the other side sends, or is held back, it has not ended. Two resets may cross in this way too:
 * each side has closed with the last words of the other unread.
 */
export class CrossingEnds {
  readonly #between: Readonly<Record<Side, RelayPeer>> & { readonly counters: RelayCounters };
  readonly #onSettled: (outcome: RelayOutcome) => void;
  /** What the other side had sent when this one closed its direction; -1: it is open. */
  readonly #atEnd = { source: -1, destination: -1 };
  /** All bytes of this side had been taken by the other one when it closed its direction. */
  readonly #wasTaken = { source: false, destination: false };
  /** What the source had sent when the destination last sent something, or ended. */
  #answeredBytes = 0;
  #doubt: Doubt | null = null;
  /** The side that closed its direction first. */
  first: Side | null = null;

  /** `onSettled` is called once, for the first side that breaks: at once, or after a wait. */
  constructor(init: {
    readonly between: Readonly<Record<Side, RelayPeer>> & { readonly counters: RelayCounters };
    readonly onSettled: (outcome: RelayOutcome) => void;
  }) {
    this.#between = init.between;
    this.#onSettled = init.onSettled;
  }

  /** Bytes of the destination have come. Called for each piece of them. */
  answered(): void {
    this.#answeredBytes = this.#between.counters.bytesSent;
  }

  /** This side closed its direction in order, and its last bytes were just written. */
  ended(side: Side): void {
    this.first ??= side;
    if (side === 'destination') this.answered();
    this.#atEnd[side] = this.#sentBy(otherOf(side));
    this.#wasTaken[side] = this.#between[otherOf(side)].waitingBytes === 0;
    if (this.#doubt !== null && this.#doubt.side !== side) this.#settle(this.#doubt, this.#saidAll(this.#doubt));
  }

  /** `heldBytes`: of this side, which waited for a rate and never go on. */
  broke(side: Side, breakage: Breakage, heldBytes = 0): void {
    const other = otherOf(side);
    if (this.#doubt !== null) {
      // Both have gone by themselves, so neither was cut off, unless one had more to say.
      const isAnswered = this.#hasEnded(this.#doubt.side) || (this.#hasSpoken(side) && this.#owesNoAnswer(side));
      const isEnd = breakage.isReset && isAnswered && this.#saidAll(this.#doubt);
      if (this.#doubt.side !== side) this.#settle(this.#doubt, isEnd);
      return;
    }
    const doubt = { side, breakage, otherSentBytes: this.#sentBy(other), heldBytes };
    const mayBeEnd = breakage.isReset && this.#hasSpoken(side) && heldBytes === 0;
    if (!mayBeEnd || this.#hasEnded(other)) this.#settle(doubt, mayBeEnd && this.#hadFinished(side));
    else if (this.#between[other].isPaused) this.#settle(doubt, false);
    else this.#wait(doubt, firstWaitMs);
  }

  /** Something else ends the connection: the side that broke did so first. */
  giveUp(): void {
    if (this.#doubt !== null) this.#settle(this.#doubt, false);
  }

  #wait(doubt: Doubt, waitMs: number): void {
    this.#doubt = doubt;
    // The event loop may have been busy for all of the time: what has arrived is read once more.
    doubt.timer = setTimeout(() => setImmediate(() => this.#waited(doubt, waitMs)), waitMs);
  }

  #waited(doubt: Doubt, waitMs: number): void {
    doubt.timer = undefined;
    if (this.#doubt !== doubt) return;
    const isPatient = waitMs < longestWaitMs[this.#hasEnded(doubt.side) ? 'ended' : doubt.side];
    if (isPatient && this.#saidAll(doubt)) this.#wait(doubt, 2 * waitMs);
    else this.giveUp();
  }

  #settle({ side, breakage: { detail }, heldBytes, timer }: Doubt, isEnd: boolean): void {
    clearTimeout(timer);
    this.#doubt = null;
    const lostBytes = heldBytes + this.#waitingFrom(side);
    const how =
      isEnd && lostBytes === 0
        ? ({
            reason: 'OK',
            endedBy: this.first ?? side,
            detail: `${detail} from the ${side} after both had finished`,
          } as const)
        : { reason: reasonByBrokenSide[side], endedBy: side, detail: detail + lostText(lostBytes) };
    this.#onSettled({ ...how, rule: null, broken: { side, detail } });
  }

  /** Bytes of this side that have not left for the other one, which is there to get them. */
  #waitingFrom(side: Side): number {
    const receiver = this.#between[otherOf(side)];
    if (receiver.isGone || receiver.breakage !== null) return 0;
    // What came in this turn can leave yet.
    receiver.flush();
    return receiver.hasTakenAll ? 0 : receiver.waitingBytes;
  }

  /** The other side has ended: this one had finished too, and nothing of the other was lost on our way. */
  #hadFinished(side: Side): boolean {
    const other = otherOf(side);
    const isTaken = this.#wasTaken[other] || this.#between[side].hasTakenAll;
    const afterEndBytes = this.#sentBy(side) - this.#atEnd[other];
    return isTaken && this.#owesNoAnswer(side) && (this.#hasEnded(side) || afterEndBytes <= lastWordsBytes);
  }

  /** While the reset waited, the other side sent no more than last words. */
  #saidAll({ side, otherSentBytes }: Doubt): boolean {
    return this.#owesNoAnswer(side) && this.#sentBy(otherOf(side)) - otherSentBytes <= lastWordsBytes;
  }

  /** All that the source sent after the last answer was a goodbye. */
  #owesNoAnswer(side: Side): boolean {
    return side === 'source' || this.#between.counters.bytesSent - this.#answeredBytes <= lastWordsBytes;
  }

  /** A side that is reset before it has sent anything has refused the connection. */
  #hasSpoken(side: Side): boolean {
    return this.#hasEnded(side) || this.#sentBy(side) > 0;
  }

  #hasEnded(side: Side): boolean {
    return this.#atEnd[side] >= 0;
  }

  #sentBy(side: Side): number {
    const { bytesSent, bytesReceived } = this.#between.counters;
    return side === 'source' ? bytesSent : bytesReceived;
  }
}

function lostText(bytes: number): string {
  return bytes === 0 ? '' : `, ${bytes} bytes of it were not sent on`;
}

function otherOf(side: Side): Side {
  return side === 'source' ? 'destination' : 'source';
}
