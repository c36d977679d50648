const blockBytes = 65_536;
/** Kept for later by each thread, 8 MiB. */
const mostIdle = 128;

/** Memory for bytes that were lent and have to wait. It is used again as soon as all of them were taken by whom they wait for. */
export class WaitingBlock {
  /** Null when it is not needed any more, and enough others are kept. */
  #memory: Buffer | null = Buffer.allocUnsafeSlow(blockBytes);
  #owner: object | null = null;
  #filled = 0;
  /** Where the piece begins that {@link take} is to give; what lies before it was given. */
  #pieceAt = 0;
  #waiting = 0;
  /** To be called once for each piece, when nobody reads it any more. */
  readonly onTaken = (): void => {
    this.#waiting -= 1;
    if (this.#waiting === 0) this.#release();
  };

  static for(owner: object): WaitingBlock {
    const block = idle.pop() ?? new WaitingBlock();
    block.#owner = owner;
    return block;
  }

  /** Whether `owner` may add to it: it was taken for it, is not full, and has not been released since. */
  hasRoomFor(owner: object): boolean {
    return this.#owner === owner && this.#filled < blockBytes;
  }

  get isFull(): boolean {
    return this.#filled === blockBytes;
  }

  /** Of the piece that `owner` is filling; 0 when the block is another one's by now. */
  pieceBytes(owner: object): number {
    return this.#owner === owner ? this.#filled - this.#pieceAt : 0;
  }

  /** Copies as much as there is room for, and returns how much that was. */
  add(bytes: Buffer): number {
    if (this.#memory === null) throw new Error('a block that was released');
    const start = this.#filled;
    const length = Math.min(bytes.length, blockBytes - start);
    // Held from here on: what was given before may be taken before the piece is.
    if (start === this.#pieceAt) this.#waiting += 1;
    this.#memory.set(length === bytes.length ? bytes : bytes.subarray(0, length), start);
    this.#filled += length;
    return length;
  }

  /** Everything that was added since the last call, at least a byte: one piece. */
  take(): Buffer {
    if (this.#memory === null) throw new Error('a block that was released');
    const piece = this.#memory.subarray(this.#pieceAt, this.#filled);
    this.#pieceAt = this.#filled;
    return piece;
  }

  #release(): void {
    this.#owner = null;
    this.#filled = 0;
    this.#pieceAt = 0;
    if (idle.length < mostIdle) idle.push(this);
    else this.#memory = null;
  }
}

const idle: WaitingBlock[] = [];
