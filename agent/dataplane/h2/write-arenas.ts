/**
 * Gathers the parts of one write into one buffer that is used again. TLS would do the same with a new one each time
 * (`TLSWrap::DoWrite` copies unless there is one buffer), and memory that is fresh from the kernel costs more than the
 * copy. Shared by all sessions of a thread: only those that are writing hold one.
 */
export class WriteArenas {
  readonly #arenaBytes: number;
  readonly #maxIdle: number;
  readonly #idle: Buffer[] = [];

  /** `maxIdle` are kept for later. */
  constructor(options: { readonly arenaBytes: number; readonly maxIdle: number }) {
    this.#arenaBytes = options.arenaBytes;
    this.#maxIdle = options.maxIdle;
  }

  /** Null when the parts are more than an arena holds. */
  gather(parts: readonly Buffer[]): { readonly arena: Buffer; readonly bytes: Buffer } | null {
    let length = 0;
    for (const part of parts) length += part.length;
    if (length > this.#arenaBytes) return null;
    const arena = this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.#arenaBytes);
    let at = 0;
    for (const part of parts) {
      arena.set(part, at);
      at += part.length;
    }
    return { arena, bytes: arena.subarray(0, length) };
  }

  /** When nobody reads the bytes any more. */
  release(arena: Buffer): void {
    if (this.#idle.length < this.#maxIdle) this.#idle.push(arena);
  }
}
