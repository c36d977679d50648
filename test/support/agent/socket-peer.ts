import type net from 'node:net';
import { acceptedFd, resetSocket } from '../../../agent/native/addon.js';
import { errorBehindEnd } from '../../../agent/native/tcp-life.js';
import { loopTurn } from '../../../agent/thread/loop-turn.js';
import { errorCodeOf } from '../../../agent/dataplane/connection/failure-reasons.js';
import { readInto } from '../../../agent/dataplane/sockets/read-into.js';
import { WaitingBlock } from '../../../agent/dataplane/sockets/waiting-block.js';
import {
  promptBytes,
  socketBounds,
  socketBreakage,
  type Breakage,
  type PeerOwner,
  type PeerSocket,
  type RelayPeer,
} from '../../../agent/dataplane/relay/relay-peer.js';

/**
 * Shared by all application sockets of this thread. With twice the size, four parallel streams cost more CPU, not less.
 */
const readBuffer = Buffer.allocUnsafeSlow(65_536);

/** A socket of Node as a side of a relay: a second implementation, next to that of the product. It needs TCP_NODELAY. */
export class SocketPeer implements RelayPeer, PeerSocket {
  readonly bounds = socketBounds;
  readonly #socket: net.Socket;
  #owner: PeerOwner | null = null;
  #block: WaitingBlock | null = null;
  #isGathering = false;
  #promptTurn = -1;

  constructor(socket: net.Socket) {
    this.#socket = socket;
  }

  get socket(): PeerSocket {
    return this;
  }

  get fd(): number {
    return acceptedFd(this.#socket);
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  get isGone(): boolean {
    return this.#socket.closed;
  }

  get breakage(): Breakage | null {
    const { errored, destroyed, readableEnded, writableFinished } = this.#socket;
    if (errored !== null) return socketBreakage(errorCodeOf(errored) || errored.message);
    if (!destroyed || (readableEnded && writableFinished)) return null;
    return { detail: 'closed before its end', isReset: false };
  }

  get isPaused(): boolean {
    return this.#socket.isPaused();
  }

  get unreadBytes(): number {
    return this.#socket.readableLength;
  }

  get waitingBytes(): number {
    return this.#socket.writableLength + (this.#block?.pieceBytes(this) ?? 0);
  }

  get hasTakenAll(): boolean {
    return this.#socket.writableFinished;
  }

  open(owner: PeerOwner): void {
    this.#owner = owner;
    const socket = this.#socket;
    // By default Node would answer the peer's FIN with its own and cut off the other direction.
    socket.allowHalfOpen = true;
    socket.on('error', () => this.#tellBreakage());
    socket.on('end', () => this.#tellEnd());
    socket.on('close', () => {
      this.#tellBreakage();
      owner.onGone();
    });
    socket.on('drain', () => owner.onDrained());
    const onBytes = (bytes: Buffer): void => owner.onBytes(bytes);
    readInto({ socket, buffer: readBuffer, onLoan: onBytes, onOwned: onBytes });
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  send(bytes: Buffer): number {
    const socket = this.#socket;
    if (bytes.length < promptBytes && socket.writableLength === 0 && !this.#isGathering) {
      // What follows in the same turn is gathered: a peer that sends single bytes must not make a system call of each.
      const turn = loopTurn();
      if (turn !== this.#promptTurn) {
        this.#promptTurn = turn;
        socket.write(Buffer.from(bytes));
        return 0;
      }
    }
    if (!this.#isGathering) {
      this.#isGathering = true;
      socket.cork();
      setImmediate(() => this.flush());
    }
    for (let at = 0; at < bytes.length;) {
      if (this.#block?.hasRoomFor(this) !== true) this.#block = WaitingBlock.for(this);
      at += this.#block.add(at === 0 ? bytes : bytes.subarray(at));
      if (this.#block.isFull) socket.write(this.#block.take(), this.#block.onTaken);
    }
    return this.waitingBytes;
  }

  flush(): void {
    if (!this.#isGathering) return;
    this.#isGathering = false;
    if (this.#block !== null && this.#block.pieceBytes(this) > 0)
      this.#socket.write(this.#block.take(), this.#block.onTaken);
    this.#socket.uncork();
    // Everything was written at once, so no `drain` will come.
    if (!this.#socket.writableNeedDrain) this.#owner?.onDrained();
  }

  end(): void {
    this.flush();
    this.#socket.end();
  }

  reset(): void {
    this.flush();
    while (this.#socket.writableCorked > 0) this.#socket.uncork();
    resetSocket(this.#socket);
  }

  breakWith(code: string): void {
    this.#socket.destroy(Object.assign(new Error(code), { code }));
  }

  #tellBreakage(): void {
    const { breakage } = this;
    if (breakage !== null) this.#owner?.onBroken(breakage);
  }

  /**
   * What Node shows as an end may be one that a RST has come behind, or only a RST: then the data was cut off, and passing it
   * on as FIN would make it look complete.
   */
  #tellEnd(): void {
    const { breakage } = this;
    const error = breakage === null ? errorBehindEnd(this.#socket) : null;
    // The kernel calls a RST that follows a FIN EPIPE (`tcp_reset` in net/ipv4/tcp_input.c).
    if (breakage === null && (error === null || error === 'EPIPE')) this.#owner?.onEnd();
    if (breakage !== null) this.#owner?.onBroken(breakage);
    else if (error !== null) this.#owner?.onBroken(socketBreakage(error));
  }
}
