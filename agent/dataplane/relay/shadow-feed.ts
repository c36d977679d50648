import type { OutputBounds, PeerOwner, RelayPeer } from './relay-peer.js';
import type { ShadowShare } from './shadow-pool.js';

/** Bytes that may wait for a shadow: its copy is never worth the memory of a connection that is served. */
const boundBytes = 262_144;
/** What waits is gathered in pieces of this size: of a client that sends single bytes, each would be an object of its own. */
const pieceBytes = 4096;
/** What comes from the shadow never waits. */
const bounds: OutputBounds = { usualBytes: boundBytes, unprovenBytes: boundBytes, beginsUnproven: false };
/** What may wait on the way from here to the shadow before it waits here, where it counts: more than one read of a socket. */
export const shadowBounds: OutputBounds = { usualBytes: 65_537, unprovenBytes: 65_537, beginsUnproven: false };
/** For how long a shadow may outlive the connection that it copies. */
const lingerMs = 5000;

/**
 * The client's side of a connection to a shadow: a copy of what the client sends to the endpoint that serves it. What the shadow
 * answers is dropped. Whatever the shadow does, the one who offers never waits and gets no error: a shadow that falls behind is
 * given up.
 */
export class ShadowFeed implements RelayPeer {
  readonly socket = null;
  readonly bounds = bounds;
  readonly waitingBytes = 0;
  readonly hasTakenAll = true;
  readonly breakage = null;
  readonly #share: ShadowShare;
  readonly #boundBytes: number;
  readonly #lingerMs: number;
  #owner: PeerOwner | null = null;
  #onGivenUp: ((detail: string) => void) | null = null;
  #waiting: Piece[] = [];
  #unreadBytes = 0;
  /** On the way to the shadow, which is where its connection is paused. */
  #far: Pick<RelayPeer, 'waitingBytes'> | null = null;
  #farBytes = 0;
  /** More is on the way than the client may have waiting. */
  #isOver = false;
  #linger: NodeJS.Timeout | null = null;
  #hasPlace = false;
  #isPaused = true;
  #isDraining = false;
  #hasEnded = false;
  #hasToldEnd = false;
  #hasOtherEnded = false;
  #isGone = false;
  #givenUp: string | null = null;

  /**
   * `share`: of what all shadows of the thread may use, held for this one, which releases it. `boundBytes`: of the copy, that may
   * wait. `lingerMs`: milliseconds.
   */
  constructor(init: { readonly share: ShadowShare; readonly boundBytes?: number; readonly lingerMs?: number }) {
    this.#share = init.share;
    this.#boundBytes = init.boundBytes ?? boundBytes;
    this.#lingerMs = init.lingerMs ?? lingerMs;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** `onGivenUp`: must end the connection to the shadow. Returns why there is to be none; null: it may begin. */
  begin(onGivenUp: (detail: string) => void): string | null {
    if (this.#givenUp !== null) return this.#givenUp;
    this.#hasPlace = this.#share.enter();
    if (!this.#hasPlace) return this.#share.noPlaceText;
    this.#onGivenUp = onGivenUp;
    return null;
  }

  /** What it feeds is open: what waits there counts too. */
  opened(far: Pick<RelayPeer, 'waitingBytes'>): void {
    this.#far = far;
  }

  /** Lent bytes that the client sent, in order. Copied only while the shadow is slower than the client. */
  offer(bytes: Buffer): void {
    if (this.#isGone || this.#givenUp !== null || this.#hasEnded) return;
    if (this.#owner !== null && !this.#isPaused && this.#unreadBytes === 0) {
      this.#tell(this.#owner, bytes);
      return;
    }
    if (this.#unreadBytes + bytes.length > this.#boundBytes) {
      this.#giveUp(`${this.#unreadBytes} bytes wait for the shadow, and ${bytes.length} more came`);
      return;
    }
    if (!this.#share.take(bytes.length)) {
      this.#giveUp(this.#share.noRoomText);
      return;
    }
    this.#gather(bytes);
    this.#unreadBytes += bytes.length;
  }

  /** The client has closed its direction: so does the copy, behind what waits. */
  offerEnd(): void {
    if (this.#isGone || this.#givenUp !== null || this.#hasEnded) return;
    this.#hasEnded = true;
    this.#drainSoon();
  }

  /** The connection that it copies is over. `reason`: why; null: in order, and the shadow may take what waits for a while. */
  copiedEnded(reason: string | null): void {
    if (this.#isGone || this.#givenUp !== null) return;
    if (reason !== null) {
      this.#giveUp(`the connection that it copies ended with ${reason}`);
      return;
    }
    this.offerEnd();
    const detail = `not over ${this.#lingerMs} ms after the connection that it copies`;
    this.#linger = setTimeout(() => this.#giveUp(detail), this.#lingerMs);
  }

  /** There is no shadow: what waits for it is dropped. */
  refuse(): void {
    this.#leave();
  }

  open(owner: PeerOwner): void {
    this.#owner = owner;
  }

  pause(): void {
    this.#isPaused = true;
    if (this.#farBytes > 0 || this.#isOver) return;
    const bytes = this.#far?.waitingBytes ?? 0;
    if (this.#share.take(bytes)) this.#farBytes = bytes;
    else this.#isOver = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#giveFarBack();
    this.#drainSoon();
  }

  send(): number {
    return 0;
  }

  flush(): void {}

  end(): void {
    this.#hasOtherEnded = true;
    this.#goIfEnded();
  }

  reset(): void {
    this.#goSoon();
  }

  /** Who pauses it does not expect that it is given up before it has returned. */
  #tell(owner: PeerOwner, bytes: Buffer): void {
    owner.onBytes(bytes);
    if (this.#isOver) this.#giveUp(this.#share.noRoomText);
  }

  #giveFarBack(): void {
    this.#share.giveBack(this.#farBytes);
    this.#farBytes = 0;
  }

  #gather(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      let last = this.#waiting.at(-1);
      if (last === undefined || last.filled === last.memory.length) {
        last = { memory: Buffer.allocUnsafeSlow(Math.max(pieceBytes, bytes.length - at)), filled: 0 };
        this.#waiting.push(last);
      }
      const count = bytes.copy(last.memory, last.filled, at);
      last.filled += count;
      at += count;
    }
  }

  #giveUp(detail: string): void {
    if (this.#isGone || this.#givenUp !== null) return;
    this.#givenUp = detail;
    this.#forget();
    this.#onGivenUp?.(detail);
  }

  /** Not at once: who resumes does not expect bytes before it has returned. */
  #drainSoon(): void {
    if (this.#isDraining || this.#owner === null) return;
    this.#isDraining = true;
    setImmediate(() => {
      this.#isDraining = false;
      this.#drain();
    });
  }

  #drain(): void {
    while (!this.#isPaused && !this.#isGone && this.#givenUp === null) {
      const piece = this.#waiting.shift();
      if (piece === undefined) break;
      const bytes = piece.memory.subarray(0, piece.filled);
      // First: what is told may be offered more.
      this.#unreadBytes -= bytes.length;
      this.#share.giveBack(bytes.length);
      if (this.#owner !== null) this.#tell(this.#owner, bytes);
    }
    if (!this.#hasEnded || this.#hasToldEnd || this.#waiting.length > 0 || this.#isPaused) return;
    if (this.#isGone || this.#givenUp !== null) return;
    this.#hasToldEnd = true;
    this.#owner?.onEnd();
    this.#goIfEnded();
  }

  #goIfEnded(): void {
    if (this.#hasToldEnd && this.#hasOtherEnded) this.#goSoon();
  }

  #goSoon(): void {
    if (this.#isGone) return;
    this.#leave();
    // The connection that is copied may hold this one for days.
    const owner = this.#owner;
    this.#owner = null;
    setImmediate(() => owner?.onGone());
  }

  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#onGivenUp = null;
    if (this.#linger !== null) clearTimeout(this.#linger);
    this.#forget();
    this.#giveFarBack();
    this.#far = null;
    if (this.#hasPlace) this.#share.leave();
    this.#share.release();
  }

  #forget(): void {
    this.#share.giveBack(this.#unreadBytes);
    this.#waiting = [];
    this.#unreadBytes = 0;
  }
}

type Piece = { readonly memory: Buffer; filled: number };
