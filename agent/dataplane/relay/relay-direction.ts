import net from 'node:net';
import { loopTurn } from '../../thread/loop-turn.js';
import { readInto } from '../sockets/read-into.js';
import { WaitingBlock } from '../sockets/waiting-block.js';
import type { Direction, BackpressureTracker } from './backpressure-tracker.js';

/**
 * Bytes that may wait for the receiver before the sender is paused. They leave in one writev, so a larger bound saves
 * system calls. Beyond it the flow control of the kernel or the tunnel slows the sender down.
 */
const socketBoundBytes = 262_144;
const streamBoundBytes = 131_072;
/**
 * The bound for an application on a new connection, and for one that took its bytes more than `lateMs` late, until it has
 * taken `provenBytes` in time. For these a larger bound would only hold more memory. The kernel's buffers, a megabyte or
 * more, take the first bytes at once even if nothing reads them.
 */
const lateBoundBytes = 65_536;
const lateMs = 100;
const provenBytes = 4_194_304;
/** Less than this goes out at once to an idle socket: waiting for the end of the turn would only add latency. */
const promptBytes = 8192;

/**
 * Shared by all application sockets of this thread. With twice the size, four parallel streams cost more CPU, not less.
 */
const readBuffer = Buffer.allocUnsafeSlow(65_536);

/**
 * Moves the bytes of one direction; the relay forwards the end. Returns a function that writes what is still held until
 * the end of the turn to `to`. Does not use `pipe()`, which loses RSTs and allocates state for every chunk.
 */
export function pumpDirection(init: {
  readonly direction: Direction;
  readonly backpressure: BackpressureTracker;
  readonly onBytes: (count: number) => void;
}): () => void {
  const { direction, backpressure, onBytes } = init;
  const { from, to } = direction;
  const isSocket = to instanceof net.Socket;
  const usualBoundBytes = isSocket ? socketBoundBytes : streamBoundBytes;
  let boundBytes = isSocket ? lateBoundBytes : usualBoundBytes;
  let isGathering = false;
  let promptTurn = -1;
  let isPaused = false;
  let pausedAtMs = 0;
  /** Since the connection began, or since the receiver was last late. */
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
    // Everything was written at once, so no `drain` will come.
    if (isPaused && !to.writableNeedDrain) resume();
  };
  const moveToSocket = (chunk: Buffer): void => {
    onBytes(chunk.length);
    if (chunk.length < promptBytes && to.writableLength === 0 && !isGathering) {
      // What follows in the same turn is gathered: a peer that sends single bytes must not make a system call of each.
      const turn = loopTurn();
      if (turn !== promptTurn) {
        promptTurn = turn;
        to.write(Buffer.from(chunk));
        return;
      }
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
