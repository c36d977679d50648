import type { WindowAllowance } from './window-allowance.js';

/** A portion is this fraction of the window: small enough that a sender at full speed never waits for it. */
const announcedParts = 4;
/** The window doubles after this many windows were read without delay: every second round trip for a limited stream. */
const windowsBeforeGrowth = 2;
/** The window is halved for each period of this length in which more than half of it waited for the reader. */
const lateMs = 100;

/**
 * What a peer may still send on one stream (RFC 9113 §5.2). The window starts small, because up to a whole window is
 * buffered for a stalled reader. It grows while the reader keeps up, because a distant sender needs a window as large
 * as what is in flight during a round trip. It shrinks while the reader is constantly late, because a larger window
 * does not serve such a reader any faster.
 */
export class StreamWindow {
  readonly #allowance: WindowAllowance;
  #targetBytes: number;
  /** What the peer knows of and has not used. */
  #available: number;
  /** Credit not yet announced; negative while a shrunken window holds back what is consumed. */
  #owed = 0;
  /** Consumed since the window last grew, or since bytes last waited. */
  #readAtOnce = 0;
  /** Consumed since the stream began, or since the reader was last late. */
  #readInTime = 0;
  /** Since when more than half of the window has been waiting; -1: it is not. */
  #lateSinceMs = -1;

  /** What it takes of the allowance returns with {@link close}. */
  constructor({ allowance }: { readonly allowance: WindowAllowance }) {
    this.#allowance = allowance;
    this.#targetBytes = allowance.firstBytes;
    this.#available = allowance.firstBytes;
    allowance.takeFirst();
  }

  /** False if the peer sends more than it may. */
  take(bytes: number): boolean {
    this.#available -= bytes;
    return this.#available >= 0;
  }

  /**
   * `bytes` were consumed; `waitingBytes` are still waiting. Returns what to announce now, or 0 if it is too little.
   */
  credit(bytes: number, waitingBytes: number): number {
    if (this.#owed < 0) this.#allowance.giveBack(Math.min(bytes, -this.#owed));
    this.#owed += bytes;
    this.#readInTime += bytes;
    if (waitingBytes === 0) this.#keepUp(bytes);
    else this.#fallBehind(waitingBytes);
    if (this.#owed * announcedParts < this.#targetBytes) return 0;
    const announced = this.#owed;
    this.#owed = 0;
    this.#available += announced;
    return announced;
  }

  close(): void {
    this.#allowance.giveBack(this.#targetBytes + Math.max(0, -this.#owed));
    this.#targetBytes = 0;
    this.#owed = 0;
  }

  #keepUp(bytes: number): void {
    this.#lateSinceMs = -1;
    this.#readAtOnce += bytes;
    if (this.#readAtOnce < windowsBeforeGrowth * this.#targetBytes) return;
    if (this.#readInTime < this.#allowance.provenBytes) return;
    this.#readAtOnce = 0;
    const grownBytes = Math.min(2 * this.#targetBytes, this.#allowance.mostBytes);
    if (grownBytes <= this.#targetBytes || !this.#allowance.grow(this.#targetBytes, grownBytes)) return;
    this.#owed += grownBytes - this.#targetBytes;
    this.#targetBytes = grownBytes;
  }

  #fallBehind(waitingBytes: number): void {
    this.#readAtOnce = 0;
    if (waitingBytes * 2 <= this.#targetBytes) {
      this.#lateSinceMs = -1;
      return;
    }
    const { firstBytes, nowMs } = this.#allowance;
    const now = nowMs();
    if (this.#lateSinceMs < 0) this.#lateSinceMs = now;
    const halvings = Math.floor((now - this.#lateSinceMs) / lateMs);
    if (halvings === 0) return;
    this.#lateSinceMs = now;
    this.#readInTime = 0;
    if (this.#targetBytes > firstBytes)
      this.#shrinkTo(Math.max(firstBytes, Math.floor(this.#targetBytes / 2 ** halvings)));
  }

  #shrinkTo(bytes: number): void {
    const less = this.#targetBytes - bytes;
    // The rest is returned when it was consumed: until then the peer holds it, or it is buffered for the reader.
    this.#allowance.giveBack(Math.max(0, Math.min(less, this.#owed)));
    this.#targetBytes = bytes;
    this.#owed -= less;
  }
}
