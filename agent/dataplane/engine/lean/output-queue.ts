import { frameHeaderBytes } from './frame-format.js';
import { largestArenaBytes, writeArenas } from './write-arenas.js';

const noBytes = Buffer.alloc(0);

/**
 * Bytes on their way out. Frames are written one after another, including payload, into the memory that TLS reads from.
 * One write is one piece, because TLS first copies several into memory of its own (`TLSWrap::DoWrite`).
 */
export class OutputQueue {
  /** The arena being filled, up to `at`; empty while there is nothing to send. */
  #arena: Buffer = noBytes;
  #at = 0;
  /** Arenas filled before it. */
  #full: Buffer[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** Writes a frame header; its payload of `length` bytes must follow. */
  header(length: number, type: number, flags: number, streamId: number): void {
    const at = this.#reserve(frameHeaderBytes);
    const arena = this.#arena;
    arena[at] = length >>> 16;
    arena[at + 1] = (length >>> 8) & 0xff;
    arena[at + 2] = length & 0xff;
    arena[at + 3] = type;
    arena[at + 4] = flags;
    this.#write32(at + 5, streamId);
  }

  uint16(value: number): void {
    const at = this.#reserve(2);
    this.#arena[at] = value >>> 8;
    this.#arena[at + 1] = value & 0xff;
  }

  uint32(value: number): void {
    this.#write32(this.#reserve(4), value);
  }

  /** Copies a piece of payload. */
  payload(bytes: Buffer): void {
    const { length } = bytes;
    if (length <= largestArenaBytes) {
      const at = this.#reserve(length);
      this.#arena.set(bytes, at);
      return;
    }
    for (let start = 0; start < length; start += largestArenaBytes) {
      this.payload(bytes.subarray(start, start + largestArenaBytes));
    }
  }

  /**
   * Returns everything, in order, and empties the queue. Release each buffer to {@link writeArenas} after it was sent.
   */
  take(): Buffer[] {
    this.#closeArena();
    const list = this.#full;
    this.#full = [];
    this.#bytes = 0;
    return list;
  }

  #write32(at: number, value: number): void {
    const arena = this.#arena;
    arena[at] = value >>> 24;
    arena[at + 1] = (value >>> 16) & 0xff;
    arena[at + 2] = (value >>> 8) & 0xff;
    arena[at + 3] = value & 0xff;
  }

  #reserve(bytes: number): number {
    if (this.#at + bytes > this.#arena.length) this.#grow(bytes);
    const at = this.#at;
    this.#at += bytes;
    this.#bytes += bytes;
    return at;
  }

  /**
   * Makes room for this many bytes in one piece, and keeps them together with earlier bytes if one arena can hold both.
   */
  #grow(bytes: number): void {
    const held = this.#arena;
    if (this.#at + bytes > largestArenaBytes || this.#at === 0) {
      this.#closeArena();
      this.#arena = writeArenas.take(bytes);
      return;
    }
    this.#arena = writeArenas.take(this.#at + bytes);
    held.copy(this.#arena, 0, 0, this.#at);
    writeArenas.release(held);
  }

  #closeArena(): void {
    if (this.#at > 0) this.#full.push(this.#arena.subarray(0, this.#at));
    this.#arena = noBytes;
    this.#at = 0;
  }
}
