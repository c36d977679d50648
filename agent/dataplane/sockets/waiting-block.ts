const blockBytes = 65_536;
/** Idle blocks that each thread keeps of the heap, 8 MiB, apart from those that lie in the memory it was given. */
const mostIdle = 128;

/** Memory for lent bytes that have to wait. It is reused as soon as all its pieces have been taken. */
export class WaitingBlock {
  static readonly bytes = blockBytes;
  /** Null if the block is no longer needed and enough others are kept. */
  #memory: Buffer | null;
  /** Its memory is not the garbage collector's. */
  readonly #isKept: boolean;
  #owner: object | null = null;
  #filled = 0;
  /** Where the piece begins that {@link take} will return; what lies before it has been taken. */
  #pieceAt = 0;
  #waiting = 0;
  /** Call once for each piece, when nothing reads it any more. */
  readonly onTaken = (): void => {
    this.#waiting -= 1;
    if (this.#waiting === 0) this.#release();
  };

  private constructor(memory: Buffer | null = null) {
    this.#isKept = memory !== null;
    this.#memory = memory ?? Buffer.allocUnsafeSlow(blockBytes);
  }

  /** Blocks of this thread lie in this memory from now on, as long as it has room for them. */
  static keepIn(memory: Buffer): void {
    for (let at = 0; at + blockBytes <= memory.length; at += blockBytes)
      kept.unshift(new WaitingBlock(memory.subarray(at, at + blockBytes)));
  }

  static for(owner: object): WaitingBlock {
    const block = kept.pop() ?? idle.pop() ?? new WaitingBlock();
    block.#owner = owner;
    return block;
  }

  /**
   * Whether `owner` may add to the block: it was taken for this owner, is not full, and has not been released since.
   */
  hasRoomFor(owner: object): boolean {
    return this.#owner === owner && this.#filled < blockBytes;
  }

  get isFull(): boolean {
    return this.#filled === blockBytes;
  }

  /** Size of the piece that `owner` is filling; 0 if the block has another owner by now. */
  pieceBytes(owner: object): number {
    return this.#owner === owner ? this.#filled - this.#pieceAt : 0;
  }

  /** Copies as much as there is room for; returns how much that was. */
  add(bytes: Buffer): number {
    if (this.#memory === null) throw new Error('a block that was released');
    const start = this.#filled;
    const length = Math.min(bytes.length, blockBytes - start);
    // Held from here on: earlier pieces may be taken before this one is.
    if (start === this.#pieceAt) this.#waiting += 1;
    this.#memory.set(length === bytes.length ? bytes : bytes.subarray(0, length), start);
    this.#filled += length;
    return length;
  }

  /** Everything that was added since the last call, as one piece of at least one byte. */
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
    if (this.#isKept) kept.push(this);
    else if (idle.length < mostIdle) idle.push(this);
    else this.#memory = null;
  }
}

/** That can be written from where they are, so they are the first to be used. */
const kept: WaitingBlock[] = [];
const idle: WaitingBlock[] = [];
