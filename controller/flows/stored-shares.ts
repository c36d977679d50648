import type { NodeName } from '../../shared/routing/names.js';

/** What the store keeps of a message in addition to its size, at most. */
const overheadBytes = 100;
/**
 * How full the stream may be. The rest is room for what a node stores until its oldest is removed: when the stream itself is
 * full, the store refuses what all nodes have.
 */
const fullShare = 0.75;
/** Down to this, so that not every message removes something. */
const trimmedShare = 0.7;
/** A part of a node's records, which is removed at once: at most this share of the stream, and this time. */
const parts = 256;
const partMs = 6 * 3_600_000;

/** Messages of one node that follow one another. */
type Part = { readonly startedMs: number; readonly firstSequence: number; lastSequence: number; bytes: number };

type Share = { readonly parts: Part[]; bytes: number };

/** What is to be removed: the node's messages up to this sequence. */
export type Excess = { readonly node: NodeName; readonly upTo: number };

/**
 * How much of the stream each node uses. When it is too full, the node that uses most gives up its oldest records, so one that
 * floods loses its own history and no other's.
 */
export class StoredShares {
  readonly #maxBytes: number;
  readonly #shares = new Map<NodeName, Share>();
  #bytes = 0;
  #lastSequence = 0;

  constructor({ maxBytes }: { readonly maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  /** `sizeBytes`: of subject, headers and content. False: the stream has lost or replaced what was read from here on. */
  add(
    node: NodeName,
    message: { readonly sequence: number; readonly sizeBytes: number; readonly storedAtMs: number },
  ): boolean {
    const { sequence, storedAtMs } = message;
    const isNext = sequence > this.#lastSequence;
    if (!isNext) this.#forgetFrom(sequence);
    this.#lastSequence = sequence;
    const bytes = message.sizeBytes + overheadBytes;
    const share = this.#shares.get(node) ?? { parts: [], bytes: 0 };
    this.#shares.set(node, share);
    let last = share.parts.at(-1);
    if (last === undefined || last.bytes >= this.#maxBytes / parts || storedAtMs - last.startedMs >= partMs) {
      share.parts.push((last = { startedMs: storedAtMs, firstSequence: sequence, lastSequence: sequence, bytes: 0 }));
    }
    last.lastSequence = sequence;
    last.bytes += bytes;
    share.bytes += bytes;
    this.#bytes += bytes;
    return isNext;
  }

  get isTooFull(): boolean {
    return this.#bytes > this.#maxBytes * fullShare;
  }

  /** What has to go when {@link isTooFull}. It counts as gone. */
  takeExcess(): Excess[] {
    const upTo = new Map<NodeName, number>();
    while (this.#bytes > this.#maxBytes * trimmedShare) {
      const [node, share] = this.#largest() ?? [];
      const part = share?.parts.shift();
      if (node === undefined || share === undefined || part === undefined) break;
      upTo.set(node, part.lastSequence);
      this.#remove(node, share, part.bytes);
    }
    return [...upTo].map(([node, sequence]) => ({ node, upTo: sequence }));
  }

  /** The store has dropped what is older. */
  forget(beforeMs: number): void {
    for (const [node, share] of this.#shares) {
      while (share.parts[0] !== undefined && share.parts[0].startedMs + partMs < beforeMs) {
        this.#remove(node, share, share.parts.shift()?.bytes ?? 0);
      }
    }
  }

  /** A part that is lost in part counts as a whole: counting too little would let the stream fill up. */
  #forgetFrom(sequence: number): void {
    for (const [node, share] of this.#shares) {
      for (let last = share.parts.at(-1); last !== undefined; last = share.parts.at(-1)) {
        last.lastSequence = Math.min(last.lastSequence, sequence - 1);
        if (last.firstSequence < sequence) break;
        share.parts.pop();
        this.#remove(node, share, last.bytes);
      }
    }
  }

  #remove(node: NodeName, share: Share, bytes: number): void {
    share.bytes -= bytes;
    this.#bytes -= bytes;
    if (share.parts.length === 0) this.#shares.delete(node);
  }

  #largest(): [NodeName, Share] | undefined {
    let largest: [NodeName, Share] | undefined;
    for (const each of this.#shares) if (largest === undefined || each[1].bytes > largest[1].bytes) largest = each;
    return largest;
  }
}
