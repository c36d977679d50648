import net from 'node:net';
import type { RelayEnd } from './relay-end.js';

/**
 * Bytes that may wait for the receiver before the sender is paused. They leave in one writev, so a larger bound saves
 * calls; past it the kernel's or the tunnel's flow control holds the sender back.
 */
const socketBoundBytes = 262_144;
const streamBoundBytes = 131_072;
/** The same for an application that has not taken what it was given last: more would only be kept for it. */
const lateBoundBytes = 65_536;
/** Smaller chunks to an idle socket go out at once: to wait for the end of the tick would only add latency. */
const promptBytes = 8192;

/**
 * Moves the bytes of one direction, and its FIN. TLS hands out 16 KiB at a time, so a socket is corked until the end of
 * the tick: one writev instead of a dozen writes. Not `pipe()`, which loses RSTs and allocates for every chunk's state.
 */
export function pumpDirection(options: {
  readonly from: RelayEnd;
  readonly to: RelayEnd;
  readonly onBytes: (count: number) => void;
}): void {
  const { from, to, onBytes } = options;
  const isSocket = to instanceof net.Socket;
  let boundBytes = isSocket ? socketBoundBytes : streamBoundBytes;
  let isCorked = false;
  let isPaused = false;
  const pause = (): void => {
    if (isPaused) return;
    isPaused = true;
    from.pause();
  };
  const uncork = (): void => {
    isCorked = false;
    to.uncork();
    // The kernel has not taken all of it: the stream behind must see that its reader is late.
    const isLate = to.writableLength > 0 && to.writableNeedDrain;
    boundBytes = isLate ? lateBoundBytes : socketBoundBytes;
    if (isLate) pause();
  };
  from.on('data', (chunk: Buffer) => {
    onBytes(chunk.length);
    if (isSocket && !isCorked && chunk.length >= promptBytes) {
      isCorked = true;
      to.cork();
      setImmediate(uncork);
    }
    to.write(chunk);
    if (to.writableLength >= boundBytes) pause();
  });
  to.on('drain', () => {
    if (!isPaused) return;
    isPaused = false;
    from.resume();
  });
}
