import net from 'node:net';
import { readInto } from '../tunnel/read-into.js';
import type { Direction, HeldBack } from './held-back.js';
import { WriteBlock } from './write-block.js';

/**
 * Bytes that may wait for the receiver before the sender is paused. They leave in one writev, so a larger bound saves
 * calls; past it the kernel's or the tunnel's flow control holds the sender back.
 */
const socketBoundBytes = 262_144;
const streamBoundBytes = 131_072;
/**
 * The same for an application that was so late to take what it was given last, or has not shown yet that it is not: more
 * would only be kept for it.
 */
const lateBoundBytes = 65_536;
const lateMs = 100;
/** Smaller chunks to an idle socket go out at once: to wait for the end of the tick would only add latency. */
const promptBytes = 8192;

/** Every application's socket of this thread reads into it. */
const readBuffer = Buffer.allocUnsafeSlow(65_536);

/**
 * Moves the bytes of one direction, and its FIN. TLS hands out 16 KiB at a time, so a socket is corked until the end of
 * the tick: one writev instead of a dozen writes. Not `pipe()`, which loses RSTs and allocates for every chunk's state.
 */
export function pumpDirection(options: {
  readonly direction: Direction;
  readonly heldBack: HeldBack;
  readonly onBytes: (count: number) => void;
}): void {
  const { direction, heldBack, onBytes } = options;
  const { from, to } = direction;
  const isSocket = to instanceof net.Socket;
  const usualBoundBytes = isSocket ? socketBoundBytes : streamBoundBytes;
  let boundBytes = isSocket ? lateBoundBytes : usualBoundBytes;
  let isCorked = false;
  let isPaused = false;
  let pausedAtMs = 0;
  let block: WriteBlock | null = null;
  const pause = (): void => {
    if (isPaused) return;
    isPaused = true;
    pausedAtMs = performance.now();
    heldBack.add(direction);
    from.pause();
  };
  const uncork = (): void => {
    isCorked = false;
    to.uncork();
  };
  const cork = (): void => {
    if (!isSocket || isCorked) return;
    isCorked = true;
    to.cork();
    setImmediate(uncork);
  };
  const writeCopy = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length;) {
      if (block?.hasRoomFor(to) !== true) block = WriteBlock.take(to);
      const copy = block.add(at === 0 ? bytes : bytes.subarray(at));
      at += copy.length;
      to.write(copy, block.onWritten);
    }
  };
  const moveOwned = (chunk: Buffer): void => {
    onBytes(chunk.length);
    if (chunk.length >= promptBytes) cork();
    to.write(chunk);
    if (to.writableLength >= boundBytes) pause();
  };
  const moveLent = (chunk: Buffer): void => {
    onBytes(chunk.length);
    if (chunk.length < promptBytes) to.write(Buffer.from(chunk));
    else {
      cork();
      writeCopy(chunk);
    }
    if (to.writableLength >= boundBytes) pause();
  };
  if (from instanceof net.Socket) {
    readInto({ socket: from, buffer: readBuffer, onLoan: moveLent, onOwned: moveOwned });
  } else {
    from.on('data', moveOwned);
    from.lendTo?.(moveLent);
  }
  to.on('drain', () => {
    if (!isPaused) return;
    isPaused = false;
    heldBack.delete(direction);
    boundBytes = performance.now() - pausedAtMs > lateMs ? lateBoundBytes : usualBoundBytes;
    from.resume();
  });
}
