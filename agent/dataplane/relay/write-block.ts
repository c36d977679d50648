const blockBytes = 65_536;
/** Kept for later by each thread, 4 MiB. */
const mostIdle = 64;

/** Memory for bytes that were lent and have to wait for a write. It is used again as soon as all of them were written. */
export class WriteBlock {
  /** Null when it is not needed any more, and enough others are kept. */
  #memory: Buffer | null = Buffer.allocUnsafeSlow(blockBytes);
  #owner: object | null = null;
  #filled = 0;
  #unwritten = 0;
  /** To be called once for each {@link add}, when the part was written. */
  readonly onWritten = (): void => {
    this.#unwritten -= 1;
    if (this.#unwritten === 0) this.#release();
  };

  static take(owner: object): WriteBlock {
    const block = idle.pop() ?? new WriteBlock();
    block.#owner = owner;
    return block;
  }

  /** Whether `owner` may add to it: it was taken for it, is not full, and has not been released since. */
  hasRoomFor(owner: object): boolean {
    return this.#owner === owner && this.#filled < blockBytes;
  }

  /** Copies as much as there is room for, and returns the copy. */
  add(bytes: Buffer): Buffer {
    if (this.#memory === null) throw new Error('a block that was released');
    const start = this.#filled;
    const length = Math.min(bytes.length, blockBytes - start);
    this.#memory.set(length === bytes.length ? bytes : bytes.subarray(0, length), start);
    this.#filled += length;
    this.#unwritten += 1;
    return this.#memory.subarray(start, start + length);
  }

  #release(): void {
    this.#owner = null;
    this.#filled = 0;
    if (idle.length < mostIdle) idle.push(this);
    else this.#memory = null;
  }
}

const idle: WriteBlock[] = [];
