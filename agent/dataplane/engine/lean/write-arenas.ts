/** For answers, credit and small messages of one turn of the event loop. */
const smallBytes = 16_384;
/** For one write of bulk, and the frame by which it may be larger. */
const largeBytes = 655_360;
/** Kept for later by each thread: 2 MiB of small ones, 2.5 MiB of large ones. */
const mostIdleSmall = 128;
const mostIdleLarge = 4;

/**
 * Memory of this thread for what leaves in one write, used again: memory that is fresh from the kernel costs more than the
 * copy into it. Only sessions that have something to send hold any.
 */
export const writeArenas = {
  /** At least so much; no more than {@link largestArenaBytes}. */
  take(bytes: number): Buffer {
    if (bytes <= smallBytes) return idleSmall.pop() ?? Buffer.allocUnsafeSlow(smallBytes);
    return idleLarge.pop() ?? Buffer.allocUnsafeSlow(largeBytes);
  },

  /** Any part of what {@link take} gave, once, when nobody reads or writes it any more. */
  release(part: Buffer): void {
    const arena = Buffer.from(part.buffer);
    if (arena.length === smallBytes) {
      if (idleSmall.length < mostIdleSmall) idleSmall.push(arena);
    } else if (idleLarge.length < mostIdleLarge) idleLarge.push(arena);
  },
};

export const largestArenaBytes = largeBytes;

const idleSmall: Buffer[] = [];
const idleLarge: Buffer[] = [];
