import net from 'node:net';
import { readInto } from '../sockets/read-into.js';
import { WaitingBlock } from '../sockets/waiting-block.js';
import type { Direction, BackpressureTracker } from './backpressure-tracker.js';

/**
 * Bytes that may wait for the receiver before the sender is paused. They leave in one writev, so a larger bound saves
 * calls; past it the kernel's or the tunnel's flow control holds the sender back.
 */
const socketBoundBytes = 262_144;
const streamBoundBytes = 131_072;
/**
 * The same for an application that was so late to take what it was given, and has not taken so much since without being
 * late again, or since it began: more would only be kept for it. The kernel's buffers, of a megabyte and more, take the
 * first bytes at once also where nobody reads them.
 */
const lateBoundBytes = 65_536;
const lateMs = 100;
const provenBytes = 4_194_304;
/** Less for an idle socket goes out at once: to wait for the end of the turn would only add latency. */
const promptBytes = 8192;

/** Every application's socket of this thread reads into it. Twice as much made four streams at once dearer, not cheaper. */
const readBuffer = Buffer.allocUnsafeSlow(65_536);

/**
 * Moves the bytes of one direction; the relay passes its end. Returns what hands over to `to` what is still kept for the
 * end of the turn. Not `pipe()`, which loses RSTs and allocates for every chunk's state.
 */
export function pumpDirection(options: {
  readonly direction: Direction;
  readonly backpressure: BackpressureTracker;
  readonly onBytes: (count: number) => void;
}): () => void {
  const { direction, backpressure, onBytes } = options;
  const { from, to } = direction;
  const isSocket = to instanceof net.Socket;
  const usualBoundBytes = isSocket ? socketBoundBytes : streamBoundBytes;
  let boundBytes = isSocket ? lateBoundBytes : usualBoundBytes;
  let isGathering = false;
  let isPaused = false;
  let pausedAtMs = 0;
  /** Since it began, or was late. */
  let takenInTimeBytes = isSocket ? 0 : provenBytes;
  let block: WaitingBlock | null = null;
  const pauseAbove = (waitingBytes: number): void => {
    if (isPaused || waitingBytes < boundBytes) return;
    isPaused = true;
    pausedAtMs = performance.now();
    backpressure.add(direction);
    from.pause();
  };
  const resume = (): void => {
    if (!isPaused) return;
    isPaused = false;
    backpressure.delete(direction);
    takenInTimeBytes = performance.now() - pausedAtMs > lateMs ? 0 : takenInTimeBytes + boundBytes;
    boundBytes = takenInTimeBytes < provenBytes ? lateBoundBytes : usualBoundBytes;
    from.resume();
  };
  const copy = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length;) {
      if (block?.hasRoomFor(to) !== true) block = WaitingBlock.for(to);
      at += block.add(at === 0 ? bytes : bytes.subarray(at));
      if (block.isFull) to.write(block.take(), block.onTaken);
    }
  };
  const writeCopied = (): void => {
    if (block !== null && block.pieceBytes(to) > 0) to.write(block.take(), block.onTaken);
  };
  const flush = (): void => {
    if (!isGathering) return;
    isGathering = false;
    writeCopied();
    to.uncork();
    // Nothing of it has to wait, so that no `drain` will come.
    if (isPaused && !to.writableNeedDrain) resume();
  };
  const moveToSocket = (chunk: Buffer): void => {
    onBytes(chunk.length);
    if (chunk.length < promptBytes && to.writableLength === 0 && !isGathering) {
      to.write(Buffer.from(chunk));
      return;
    }
    if (!isGathering) {
      isGathering = true;
      to.cork();
      setImmediate(flush);
    }
    copy(chunk);
    pauseAbove(to.writableLength + (block?.pieceBytes(to) ?? 0));
  };
  const moveToStream = (chunk: Buffer): void => {
    onBytes(chunk.length);
    const sent = isSocket ? 0 : (to.writeNow?.(chunk) ?? 0);
    if (sent === chunk.length) return;
    const rest = chunk.subarray(sent);
    if (rest.length < promptBytes) to.write(Buffer.from(rest));
    else {
      copy(rest);
      writeCopied();
    }
    pauseAbove(to.writableLength);
  };
  const move = isSocket ? moveToSocket : moveToStream;
  if (from instanceof net.Socket) readInto({ socket: from, buffer: readBuffer, onLoan: move, onOwned: move });
  else {
    from.on('data', move);
    from.lendTo?.(move);
  }
  to.on('drain', resume);
  return flush;
}
