/** For answers, credit and small messages of one turn of the event loop. */
const smallBytes = 16_384;
/** For one bulk write, and the frame by which it may exceed its budget. */
const largeBytes = 655_360;
/** Idle arenas that each thread keeps: 2 MiB of small ones, 2.5 MiB of large ones. */
const mostIdleSmall = 128;
const mostIdleLarge = 4;

/**
 * Reusable memory of this thread for the bytes of one write: fresh memory from the kernel costs more than copying into
 * it. Only sessions with something to send hold any.
 */
export const writeArenas = {
  /** Returns at least this many bytes; at most {@link largestArenaBytes} may be requested. */
  take(bytes: number): Buffer {
    if (bytes <= smallBytes) return idleSmall.pop() ?? Buffer.allocUnsafeSlow(smallBytes);
    return idleLarge.pop() ?? Buffer.allocUnsafeSlow(largeBytes);
  },

  /** Call once with any part of what {@link take} returned, when nothing reads or writes it any more. */
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
