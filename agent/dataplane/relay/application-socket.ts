import { getSystemErrorName } from 'node:util';
import { CulvertError } from '../../../shared/errors.js';
import { resetFd } from '../../native/addon.js';
import { socketQuestion } from '../../native/io-calls.js';
import { loopTurn } from '../../thread/loop-turn.js';
import { atEnd, IoSocket, nothingYet, type SocketOwner } from '../io/io-socket.js';
import { scratchAt, type Reactor } from '../io/reactor.js';
import {
  promptBytes,
  socketBounds,
  socketBreakage,
  type Breakage,
  type PeerOwner,
  type PeerSocket,
  type RelayPeer,
} from './relay-peer.js';

/** Of one socket in one round. */
const mostRead = 65_536;
/** EBADF, negated. */
const notOpen = -9;
const closedEarly: Breakage = { detail: 'closed before its end', isReset: false };

/** Who waits for the connection that is being dialled. */
export type Dialler = {
  /** With null when it is connected, or with the name of an errno, and then it is closed. */
  readonly onDialled: (errno: string | null) => void;
  /** The dial has failed, and the socket is still open, for a question to the kernel. */
  readonly onDialFailed?: (fd: number) => void;
};

/**
 * A connection with an application: accepted from it, or dialled to it. Nothing of it is read until a relay does so, and one that
 * was accepted is not even watched. It belongs to its maker and then to the relay, and its owner closes or resets it.
 */
export class ApplicationSocket implements RelayPeer, PeerSocket, SocketOwner {
  readonly bounds = socketBounds;
  readonly #reactor: Reactor;
  /** Of one that was accepted, until a relay opens it; 0: of none. */
  #handle = 0;
  #io: IoSocket | null = null;
  #owner: PeerOwner | null = null;
  /** While it is being dialled. Null: connected. */
  #dialler: Dialler | null = null;
  #breakage: Breakage | null = null;
  #isPaused = true;
  #hasEnded = false;
  #hasTakenAll = false;
  #promptTurn = -1;

  private constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** Of an accepted connection, by its handle. */
  static accepted(reactor: Reactor, handle: number): ApplicationSocket {
    const socket = new ApplicationSocket(reactor);
    socket.#handle = handle;
    return socket;
  }

  /** As accepted, of a descriptor that {@link release} gave up. Takes it over; returns the name of an errno after resetting it. */
  static received(reactor: Reactor, fd: number): ApplicationSocket | string {
    const handle = reactor.calls.ioAdopt(fd);
    if (handle > 0) return ApplicationSocket.accepted(reactor, handle);
    // A number that is not open must not be closed.
    if (handle !== notOpen) resetFd(fd);
    return getSystemErrorName(handle);
  }

  /**
   * Dials with a socket that the caller made and owns no longer. Returns the name of an errno when it fails at once. Unless it
   * {@link isConnected} then, or is closed before, `onDialled` is called once.
   */
  static dial(
    reactor: Reactor,
    to: { readonly fd: number; readonly ip: string; readonly port: number },
    dialler: Dialler,
  ): ApplicationSocket | string {
    const socket = new ApplicationSocket(reactor);
    socket.#dialler = dialler;
    const io = IoSocket.dial(reactor, { ...to, owner: socket });
    if (typeof io === 'string') return io;
    socket.#io = io;
    if (io.isConnected) socket.#dialler = null;
    return socket;
  }

  get isConnected(): boolean {
    return this.#handle !== 0 || this.#io?.isConnected === true;
  }

  get socket(): PeerSocket {
    return this;
  }

  get fd(): number {
    const fd = this.#handle === 0 ? (this.#io?.fd ?? null) : this.#reactor.calls.ioDescriptor(this.#handle);
    if (fd === null || fd < 0) throw new CulvertError({ code: 'EBADF', message: 'the socket has no fd: it is closed' });
    return fd;
  }

  get isClosed(): boolean {
    return this.#handle === 0 && this.#io?.isOpen !== true;
  }

  get isGone(): boolean {
    return this.isClosed;
  }

  get breakage(): Breakage | null {
    if (this.#breakage !== null || !this.isClosed || (this.#hasEnded && this.#hasTakenAll)) return this.#breakage;
    return closedEarly;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** All that has left the kernel has been told. */
  get unreadBytes(): number {
    return 0;
  }

  get waitingBytes(): number {
    return this.#io?.waiting ?? 0;
  }

  get hasTakenAll(): boolean {
    return this.#hasTakenAll;
  }

  open(owner: PeerOwner): void {
    this.#owner = owner;
    if (this.#handle === 0) return;
    this.#io = IoSocket.accepted(this.#reactor, this.#handle, this);
    this.#handle = 0;
  }

  /** Gives up an accepted connection that no relay has opened: its descriptor, which is the caller's, or null if it is closed. */
  release(): number | null {
    if (this.#handle === 0) return null;
    const fd = this.#reactor.calls.ioRelease(this.#handle);
    this.#handle = 0;
    return fd < 0 ? null : fd;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#io?.readLater();
  }

  send(bytes: Buffer): number {
    const io = this.#io;
    if (io === null) return 0;
    if (io.waiting > 0) return io.hold(bytes);
    // Of another application's socket, which reads more at once than a tunnel gives: it needs no copy.
    if (this.#reactor.holds(bytes)) return io.writeBytes(bytes);
    if (bytes.length >= promptBytes) return io.hold(bytes);
    // What follows in the same turn is gathered: a peer that sends single bytes must not make a system call of each.
    const turn = loopTurn();
    if (turn === this.#promptTurn) return io.hold(bytes);
    this.#promptTurn = turn;
    return io.writeBytes(bytes);
  }

  flush(): void {
    this.#io?.flush();
  }

  end(): void {
    this.#io?.end();
  }

  reset(): void {
    if (this.isClosed) return;
    this.flush();
    // With its end behind the last bytes it was over, and its owner is told.
    if (this.isClosed) return;
    if (this.#handle === 0) this.#io?.reset();
    else this.#closeUnopened(1);
    this.#tellGone();
  }

  /** Without a relay: FIN behind what was sent, or RST where something of the application is unread. */
  close(): void {
    if (this.isClosed) return;
    if (this.#handle === 0) this.#io?.close();
    else this.#closeUnopened(0);
    this.#tellGone();
  }

  breakWith(code: string): void {
    if (this.isClosed) return;
    if (this.#handle === 0) this.#io?.close();
    else this.#closeUnopened(0);
    this.onBroken(code);
  }

  onConnected(): void {
    const dialler = this.#dialler;
    this.#dialler = null;
    dialler?.onDialled(null);
  }

  onDialFailed(fd: number): void {
    this.#dialler?.onDialFailed?.(fd);
  }

  onReadable(): void {
    if (this.#isPaused) return;
    const { memory } = this.#reactor;
    const count = this.#io?.read(scratchAt, mostRead) ?? nothingYet;
    if (count > 0) this.#owner?.onBytes(memory.subarray(scratchAt, scratchAt + count));
    else if (count === atEnd) this.#tellEnd();
  }

  onDrained(): void {
    this.#owner?.onDrained();
  }

  onFinished(): void {
    this.#hasTakenAll = true;
    this.#closeIfOver();
  }

  onBroken(code: string): void {
    const dialler = this.#dialler;
    this.#breakage ??= socketBreakage(code);
    if (dialler !== null) {
      this.#dialler = null;
      dialler.onDialled(code);
      return;
    }
    this.#owner?.onBroken(this.#breakage);
    this.#tellGone();
  }

  #closeUnopened(isReset: 0 | 1): void {
    this.#reactor.calls.ioClose(this.#handle, isReset);
    this.#handle = 0;
  }

  /** A RST may have come behind the end, mostly as EPIPE (`tcp_reset` in net/ipv4/tcp_input.c). */
  #tellEnd(): void {
    const io = this.#io;
    if (io === null || this.#hasEnded) return;
    this.#hasEnded = true;
    const error = Math.abs(this.#reactor.calls.ioAsk(io.handle, socketQuestion.error));
    this.#owner?.onEnd();
    if (error === 0) this.#closeIfOver();
    else this.breakWith(getSystemErrorName(-error));
  }

  #closeIfOver(): void {
    if (!this.#hasEnded || !this.#hasTakenAll || this.isClosed) return;
    this.#io?.close();
    this.#tellGone();
  }

  /** Later, as what is called now may be what closed it. */
  #tellGone(): void {
    const owner = this.#owner;
    if (owner === null) return;
    queueMicrotask(() => owner.onGone());
  }
}
