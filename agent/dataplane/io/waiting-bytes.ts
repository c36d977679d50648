import { desk } from '../../native/io-calls.js';
import { WaitingBlock } from '../sockets/waiting-block.js';
import type { Reactor } from './reactor.js';

/** In words. */
const partsAt = desk.parts / 4;

/** Bytes that wait; `block` has to know when they are gone. */
type Piece = { bytes: Buffer; readonly block: WaitingBlock };

/** Copies of what the kernel has not taken yet, in order, in blocks that are used again: many small ones cost what one costs. */
export class WaitingBytes {
  /** Pieces of full blocks, and behind them what the last block has. */
  readonly #pieces: Piece[] = [];
  #block: WaitingBlock | null = null;
  #bytes = 0;

  get length(): number {
    return this.#bytes;
  }

  add(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#block?.hasRoomFor(this) !== true) this.#block = WaitingBlock.for(this);
      at += this.#block.add(at === 0 ? bytes : bytes.subarray(at));
      if (this.#block.isFull) this.#takePiece(this.#block);
    }
    this.#bytes += bytes.length;
  }

  /** Copies the first of them, at most `most`, to `at` of `memory`; returns how many. */
  layOut(memory: Buffer, at: number, most: number): number {
    this.#takeLast();
    let length = 0;
    for (const { bytes } of this.#pieces) {
      const taken = Math.min(bytes.length, most - length);
      memory.set(taken === bytes.length ? bytes : bytes.subarray(0, taken), at + length);
      length += taken;
      if (length === most) break;
    }
    return length;
  }

  /**
   * Says on the desk where the first of them lie, at most `most`: what is not in the reactor's memory is copied to `at` of it.
   * For `ioSendParts`.
   */
  layOutParts(reactor: Reactor, at: number, most: number): { readonly parts: number; readonly length: number } {
    this.#takeLast();
    const { memory, words } = reactor;
    let [parts, length] = [0, 0];
    for (const { bytes } of this.#pieces) {
      const taken = Math.min(bytes.length, most - length);
      let offset = bytes.byteOffset;
      if (!reactor.holds(bytes)) {
        offset = at + length;
        memory.set(taken === bytes.length ? bytes : bytes.subarray(0, taken), offset);
      }
      words[partsAt + 2 * parts] = offset;
      words[partsAt + 2 * parts + 1] = taken;
      parts += 1;
      length += taken;
      if (length === most || parts === desk.mostParts) break;
    }
    return { parts, length };
  }

  /** The first `count` of them are gone. */
  drop(count: number): void {
    this.#bytes -= count;
    let left = count;
    let gone = 0;
    for (const piece of this.#pieces) {
      if (piece.bytes.length > left) {
        piece.bytes = piece.bytes.subarray(left);
        break;
      }
      left -= piece.bytes.length;
      gone += 1;
      piece.block.onTaken();
    }
    if (gone > 0) this.#pieces.splice(0, gone);
  }

  clear(): void {
    if (this.#bytes === 0) return;
    this.#takeLast();
    this.drop(this.#bytes);
  }

  #takeLast(): void {
    if (this.#block !== null && this.#block.pieceBytes(this) > 0) this.#takePiece(this.#block);
  }

  #takePiece(block: WaitingBlock): void {
    this.#pieces.push({ bytes: block.take(), block });
  }
}
