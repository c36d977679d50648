import { frameHeaderBytes } from './frame-format.js';

/** Small frames and small payloads are written into one buffer after the other of this size. */
const arenaBytes = 32_768;
/** A payload from this size on is passed on as it is; to copy a smaller one costs less than one more buffer in a writev. */
const referencedBytes = 4096;

/** Bytes on their way out: frames are written one after the other, and leave as a list of buffers. */
export class OutputQueue {
  #arena = Buffer.allocUnsafeSlow(arenaBytes);
  /** Of the arena: `taken` is in the list or was given away, the rest up to `at` is not in the list yet. */
  #taken = 0;
  #at = 0;
  #list: Buffer[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** A frame header; its payload of `length` bytes is to follow. */
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

  /** A piece of payload. A large one is kept by reference: it must not change until it is sent. */
  payload(bytes: Buffer): void {
    const { length } = bytes;
    if (length >= referencedBytes) {
      this.#closeRun();
      this.#list.push(bytes);
      this.#bytes += length;
      return;
    }
    const at = this.#reserve(length);
    bytes.copy(this.#arena, at);
  }

  /** Everything, in order; the queue is empty then. The buffers belong to the caller. */
  take(): Buffer[] {
    this.#closeRun();
    const list = this.#list;
    this.#list = [];
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
    if (this.#at + bytes > arenaBytes) {
      this.#closeRun();
      // What was given away may not have been sent yet, so the old arena is never written again.
      this.#arena = Buffer.allocUnsafeSlow(arenaBytes);
      this.#taken = 0;
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += bytes;
    this.#bytes += bytes;
    return at;
  }

  #closeRun(): void {
    if (this.#at === this.#taken) return;
    this.#list.push(this.#arena.subarray(this.#taken, this.#at));
    this.#taken = this.#at;
  }
}
