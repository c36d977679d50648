import { getSystemErrorName } from 'node:util';
import { closeFd } from '../../native/addon.js';
import { epollEvent, mostTlsBytes, socketQuestion } from '../../native/io-calls.js';
import { outputAt, type Outputting, type Reactor, type Turnable, type Watched } from './reactor.js';
import { WaitingBytes } from './waiting-bytes.js';

/** Whose socket it is. Nothing is called after `onBroken`, or after the owner has closed the socket. */
export interface SocketOwner {
  /** The connection that was dialled is there; not called where it was when `dial` returned. */
  onConnected?(): void;
  /** Its dial has failed, and the socket is still open, for a question to the kernel. */
  onDialFailed?(fd: number): void;
  /** There may be something to read, or the end. Reads one quantum, or leaves it: {@link IoSocket.readLater} asks again. */
  onReadable(): void;
  /** The kernel has taken all that waited. */
  onDrained?(): void;
  /** The kernel has taken all that was written, and the end behind it. */
  onFinished?(): void;
  /** The socket is closed. `code` is the name of the errno, `ECONNRESET` for example, which `failure-reasons.ts` knows. */
  onBroken(code: string): void;
}

/** While more than this waits nothing is taken: an owner has to stop when {@link IoSocket.waiting} is not 0. */
const mostWaiting = 4 * 1024 * 1024;
/** Of what waits, in one call. */
const mostAtOnce = mostTlsBytes;
const [again, inProgress, brokenPipe, connectionReset] = [-11, -115, -32, -104];
const onEdge = epollEvent.in | epollEvent.urgent | epollEvent.peerEnded | epollEvent.onEdge;
const readableEvents = epollEvent.in | epollEvent.urgent | epollEvent.peerEnded;
const brokenEvents = epollEvent.error | epollEvent.hangUp;

/** What {@link IoSocket.read} returns in place of a number of bytes. */
export const nothingYet = -1;
export const atEnd = 0;

/**
 * A TCP connection as a number. Both directions end by themselves. What the kernel does not take waits here, is written before
 * anything new, and is told when it is gone. Its owner closes or resets it.
 *
 * A write that fails is told as `onBroken` in a later round, after what the peer sent before has been read; at once to an owner
 * that reads nothing. So is a reset behind the end of the peer, also to an owner that writes nothing.
 */
export class IoSocket implements Watched, Turnable, Outputting {
  readonly handle: number;
  isQueued = false;
  isOutputQueued = false;
  readonly #reactor: Reactor;
  readonly #owner: SocketOwner;
  #isOpen = true;
  #isConnected: boolean;
  #mayRead = true;
  #mayWrite = true;
  /** An event said that the end, or a failure, is behind what is still unread. */
  #hasEndSeen = false;
  /** A read ends at the mark of urgent data (tcp(7)), also where more is behind it: none is trusted to be the last. */
  #hasUrgent = false;
  /** An event said that the connection has failed. Where that is behind an end, neither a read nor another event tells it. */
  #hasFailureSeen = false;
  #hasReadEnd = false;
  #hasRead = false;
  #isEnding = false;
  #hasEnded = false;
  /** A negated errno. */
  #failure = 0;
  #watchesOutput: boolean;
  readonly #rest = new WaitingBytes();

  private constructor(init: { reactor: Reactor; handle: number; owner: SocketOwner; isConnected: boolean }) {
    this.handle = init.handle;
    this.#reactor = init.reactor;
    this.#owner = init.owner;
    this.#isConnected = init.isConnected;
    this.#watchesOutput = !init.isConnected;
  }

  /** Of an accepted connection, by its handle. */
  static accepted(reactor: Reactor, handle: number, owner: SocketOwner): IoSocket {
    const socket = new IoSocket({ reactor, handle, owner, isConnected: true });
    socket.#watch();
    return socket;
  }

  /**
   * Dials with a socket that the caller made and owns no longer (`dialSocket` of agent/native/dial-sockets.ts). On one host it is
   * mostly connected at once. Returns the name of the errno when it is refused at once; then the socket is closed.
   */
  static dial(
    reactor: Reactor,
    to: { readonly fd: number; readonly ip: string; readonly port: number; readonly owner: SocketOwner },
  ): IoSocket | string {
    const handle = reactor.calls.ioAdopt(to.fd);
    if (handle < 0) {
      closeFd(to.fd);
      return getSystemErrorName(handle);
    }
    const result = reactor.calls.ioConnect(handle, to.ip, to.port);
    if (result < 0 && result !== inProgress) {
      to.owner.onDialFailed?.(reactor.calls.ioDescriptor(handle));
      reactor.calls.ioClose(handle, 0);
      return getSystemErrorName(result);
    }
    const socket = new IoSocket({ reactor, handle, owner: to.owner, isConnected: result === 0 });
    socket.#watch();
    return socket;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Bytes that the kernel has not taken. */
  get waiting(): number {
    return this.#rest.length;
  }

  /** The descriptor, for a question to the kernel; null when it is closed. */
  get fd(): number | null {
    const fd = this.#isOpen ? this.#reactor.calls.ioDescriptor(this.handle) : -1;
    return fd < 0 ? null : fd;
  }

  /**
   * Reads at most `most` bytes to `offset` of the reactor's memory. {@link nothingYet}: `onReadable` comes when there is more;
   * {@link atEnd}: no more will come. A failure closes the socket, and `onBroken` comes before this returns.
   */
  read(offset: number, most: number): number {
    if (!this.#isOpen || !this.#mayRead) return nothingYet;
    this.#hasRead = true;
    const count = this.#reactor.calls.ioReceive(this.handle, offset, most);
    if (count === again) {
      this.#mayRead = false;
      this.#hasUrgent = false;
      return nothingYet;
    }
    // The kernel tells a failure once: after the write that it was told to, reads find an end. EPIPE is one behind a FIN.
    if (count < 0 || (count === 0 && this.#failure !== 0 && this.#failure !== brokenPipe)) {
      this.#break(this.#failure === 0 ? count : this.#failure);
      return nothingYet;
    }
    if (count === 0) this.#hasReadEnd = most > 0;
    // A short read is the last one, unless the end or urgent data is behind it.
    const isTrusted = !this.#hasEndSeen && !this.#hasUrgent && this.#failure === 0;
    if (count < most && isTrusted) this.#mayRead = count === 0;
    if ((count > 0 && this.#mayRead) || (this.#hasReadEnd && this.#hasFailureSeen)) this.readLater();
    return count;
  }

  /** `onReadable` comes in a later round. For an owner that stopped to read and goes on. */
  readLater(): void {
    if (this.#isOpen && this.#mayRead) this.#reactor.queue(this);
  }

  /**
   * Writes bytes of the reactor's memory, which are the caller's again when this returns. Returns what waits then: 0, or the
   * owner has to stop until `onDrained`. Throws a RangeError while more than 4 MiB wait already, an Error after {@link end}. What
   * is written at once may be longer: a relay has whatever it held back for a rate, up to the windows of its sender.
   */
  write(offset: number, length: number): number {
    if (this.#mayTake()) this.#put(offset, length);
    return this.#rest.length;
  }

  /** As {@link write}, of any memory. */
  writeBytes(bytes: Buffer): number {
    const { memory } = this.#reactor;
    if (this.#reactor.holds(bytes)) return this.write(bytes.byteOffset, bytes.length);
    if (!this.#mayTake()) return 0;
    for (let at = 0; at < bytes.length; at += mostAtOnce) {
      const length = Math.min(mostAtOnce, bytes.length - at);
      memory.set(length === bytes.length ? bytes : bytes.subarray(at, at + length), outputAt);
      this.#put(outputAt, length);
    }
    return this.#rest.length;
  }

  /** As {@link writeBytes}, at the end of the round, with all else that is held by then in one call. */
  hold(bytes: Buffer): number {
    if (!this.#mayTake()) return 0;
    this.#rest.add(bytes);
    if (this.#mayWrite) this.#reactor.queueOutput(this);
    return this.#rest.length;
  }

  /** Writes what {@link hold} holds. */
  flush(): void {
    if (this.#mayWrite && this.#rest.length > 0) this.#writeRest();
  }

  /**
   * Gives up the handle, to which TLS comes in place of this: the caller owns it, and has to watch it for itself. Throws where
   * the socket is not connected any more, or something waits.
   */
  handOver(): number {
    if (!this.#isOpen || !this.#isConnected || this.#isEnding || this.#rest.length > 0)
      throw new Error('a socket that is not at rest cannot be handed over');
    this.#isOpen = false;
    this.#reactor.forget(this);
    return this.handle;
  }

  /** FIN behind what waits. The other direction goes on. */
  end(): void {
    if (!this.#isOpen || this.#isEnding) return;
    this.#isEnding = true;
    if (this.#rest.length > 0) this.flush();
    else this.#endWhenWritten();
  }

  /** What waits here is lost; what the kernel took is still sent. */
  close(): void {
    this.#close(0);
  }

  /** RST: what has not left is lost. */
  reset(): void {
    this.#close(1);
  }

  onEvents(events: number): void {
    if ((events & (epollEvent.peerEnded | brokenEvents)) !== 0) this.#hasEndSeen = true;
    if (!this.#isConnected) {
      if ((events & (epollEvent.out | brokenEvents)) === 0) return;
      const error = this.#reactor.calls.ioAsk(this.handle, socketQuestion.error);
      if (error !== 0) {
        if (this.fd !== null) this.#owner.onDialFailed?.(this.fd);
        this.#break(-Math.abs(error));
        return;
      }
      this.#isConnected = true;
      this.#owner.onConnected?.();
    }
    if ((events & (epollEvent.out | brokenEvents)) !== 0) {
      this.#mayWrite = true;
      this.#writeRest();
    }
    if ((events & epollEvent.urgent) !== 0) this.#hasUrgent = true;
    if ((events & (readableEvents | brokenEvents)) === 0) return;
    if ((events & epollEvent.error) !== 0) this.#hasFailureSeen = true;
    this.#mayRead = true;
    this.readLater();
  }

  onTurn(): void {
    if (!this.#isOpen) return;
    this.#hasRead = false;
    if (this.#mayRead && !this.#hasReadEnd) this.#owner.onReadable();
    if (this.#isOpen && this.#hasReadEnd && this.#hasFailureSeen) this.#failure ||= this.#askFailure();
    const isOver = !this.#mayRead || this.#hasReadEnd || !this.#hasRead;
    if (this.#failure !== 0 && isOver) this.#break(this.#failure);
  }

  onOutput(): void {
    this.flush();
  }

  #mayTake(): boolean {
    if (!this.#isOpen) return false;
    if (this.#isEnding) throw new Error('written after the end');
    if (this.#rest.length > mostWaiting) throw new RangeError('more waits than an owner may let wait');
    return this.#failure === 0;
  }

  #put(offset: number, length: number): void {
    const sent = this.#rest.length === 0 ? this.#send(offset, length) : 0;
    if (sent < length) this.#rest.add(this.#reactor.memory.subarray(offset + sent, offset + length));
  }

  /** Returns how much of it the kernel took, or all of it where that has failed. */
  #send(offset: number, length: number): number {
    if (this.#failure !== 0) return length;
    if (!this.#isConnected || !this.#mayWrite) return 0;
    const count = this.#reactor.calls.ioSend(this.handle, offset, length);
    if (count < 0 && count !== again) {
      this.#fail(count);
      return length;
    }
    if (count < length) this.#awaitRoom();
    return Math.max(0, count);
  }

  /** Behind what the peer sent before, and what waits here is lost. */
  #fail(number: number): void {
    this.#failure ||= number;
    this.#rest.clear();
    this.#mayRead = true;
    this.#reactor.queue(this);
  }

  /** The kernel tells it once: it may have told it to a write whose failure came to no owner. */
  #askFailure(): number {
    return -Math.abs(this.#reactor.calls.ioAsk(this.handle, socketQuestion.error)) || connectionReset;
  }

  #writeRest(): void {
    if (!this.#isOpen || !this.#isConnected) return;
    const hadRest = this.#rest.length > 0;
    while (this.#rest.length > 0) {
      const { parts, length } = this.#rest.layOutParts(this.#reactor, outputAt, mostAtOnce);
      const count = this.#reactor.calls.ioSendParts(this.handle, parts);
      if (count < 0) {
        if (count === again) this.#awaitRoom();
        else this.#fail(count);
        return;
      }
      this.#rest.drop(count);
      if (count < length) {
        this.#awaitRoom();
        return;
      }
    }
    if (hadRest && !this.#isEnding) this.#owner.onDrained?.();
    this.#endWhenWritten();
  }

  #awaitRoom(): void {
    this.#mayWrite = false;
    if (this.#watchesOutput) return;
    this.#watchesOutput = true;
    this.#watch();
  }

  #endWhenWritten(): void {
    if (!this.#isOpen || !this.#isEnding || this.#hasEnded || !this.#isConnected || this.#rest.length > 0) return;
    if (this.#failure !== 0) return;
    this.#hasEnded = true;
    // It fails where the peer has reset the connection, which reading tells.
    this.#reactor.calls.ioShutdown(this.handle);
    this.#owner.onFinished?.();
  }

  #watch(): void {
    const result = this.#reactor.watch(this, this.#watchesOutput ? onEdge | epollEvent.out : onEdge);
    if (result < 0) this.#fail(result);
  }

  #break(number: number): void {
    if (!this.#isOpen) return;
    this.#close(0);
    this.#owner.onBroken(getSystemErrorName(number));
  }

  #close(isReset: 0 | 1): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#rest.clear();
    this.#reactor.forget(this);
    this.#reactor.calls.ioClose(this.handle, isReset);
  }
}
