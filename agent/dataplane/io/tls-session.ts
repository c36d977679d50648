import { epollEvent, mostTlsBytes, socketQuestion, statusBit, tlsExtraRoom } from '../../native/io-calls.js';
import { outputAt, scratchAt, type Outputting, type Reactor, type Turnable, type Watched } from './reactor.js';
import type { TlsContext } from './tls-context.js';
import { failureOfSocket, failureOfTls, peerOf, type TlsFailure, type TlsPeer } from './tls-peer.js';
import { WaitingBytes } from './waiting-bytes.js';

/** Whose session it is. Nothing is called after `onClosed`, or after the owner has closed the session. */
export interface TlsOwner {
  /** The handshake is done. The answer is `admit`, `refuse` or `close`, now or later; nothing is read before. */
  onHandshake(peer: TlsPeer): void;
  /** Bytes of the peer, which are lent until this returns. */
  onData(bytes: Buffer): void;
  /** No more will come: close_notify, or (`isCut`) a FIN without it. The other direction goes on. */
  onEnd(isCut: boolean): void;
  /** The kernel has taken all that was written. Comes after each write or more of them, in a later round. */
  onWritten?(): void;
  /** The end of the round in which {@link TlsSession.wantOutput} was called. */
  onOutput?(): void;
  /** The session is closed: what it failed with, or null after `closeSoon` or `refuse`. What came before was told before. */
  onClosed(failure: TlsFailure | null): void;
}

/** More than this waits for no reader: its owner has to stop when {@link TlsSession.write} does not return 0. */
const mostWaiting = 4 * 1024 * 1024;
/** Of the network, in one turn. */
const quantum = 262_144;
const [again, connectionReset] = [-11, -104];
const onEdge = epollEvent.in | epollEvent.peerEnded | epollEvent.onEdge;
const brokenEvents = epollEvent.error | epollEvent.hangUp;

/**
 * `judged`: nothing is read before the owner has decided. `refused`: it is told why, and what comes is dropped, because a socket
 * that is closed with unread bytes sends a RST, which may overtake the reason.
 */
type State = 'handshake' | 'judged' | 'open' | 'refused' | 'closed';

/**
 * TLS 1.3 on a connected socket, which belongs to it. Both directions end by themselves. What the kernel does not take waits here
 * and is written before anything new. It has no timers: its owner limits how long it may take.
 */
export class TlsSession implements Watched, Turnable, Outputting {
  readonly handle: number;
  isQueued = false;
  isOutputQueued = false;
  /** Bytes of the peer's application that have been told. */
  bytesRead = 0;
  readonly #reactor: Reactor;
  #owner: TlsOwner;
  #state: State = 'handshake';
  #mayRead = true;
  #isPaused = false;
  /** What the last read found behind the bytes, until it is told, and then that there is nothing more: bits and an errno. */
  #endBits = 0;
  #endNumber = 0;
  #isEndTold = false;
  /** A negated errno. What came before is read first. */
  #writeFailure = 0;
  #watchesOutput = false;
  /** Bytes of the network that wait for the kernel, inside of TLS. */
  #waiting = 0;
  /** Bytes of the application behind them. */
  readonly #rest = new WaitingBytes();
  #isWriting = false;
  #isEnding = false;
  #isEndSealed = false;
  #hasEnded = false;
  #closesAtEnd = false;

  private constructor(reactor: Reactor, handle: number, owner: TlsOwner) {
    this.#reactor = reactor;
    this.handle = handle;
    this.#owner = owner;
  }

  /**
   * Begins the handshake on a connected socket that nothing was read from, by its handle, as the side of `context`. Returns the
   * name of the errno where that cannot be, `EBADF` for a context that was freed; then the socket is closed.
   */
  static begin(
    reactor: Reactor,
    init: { handle: number; context: TlsContext; owner: TlsOwner },
  ): TlsSession | TlsFailure {
    const { handle, context, owner } = init;
    const session = new TlsSession(reactor, handle, owner);
    const begun = reactor.calls.ioTlsBegin(handle, context.handle);
    const result = begun < 0 ? begun : reactor.watch(session, onEdge);
    if (result < 0) {
      session.close();
      return failureOfSocket('handshake', result);
    }
    reactor.queueHandshake(session);
    return session;
  }

  get isOpen(): boolean {
    return this.#state !== 'closed';
  }

  /** Bytes that the kernel has not taken. */
  get waiting(): number {
    return this.#waiting + this.#rest.length;
  }

  /** Its events go to `owner` from now on: a handshake is for another one than what comes behind it. */
  passTo(owner: TlsOwner): void {
    this.#owner = owner;
  }

  /** The peer is who it must be: its bytes come from now on. */
  admit(): void {
    if (this.#state !== 'judged') throw new Error('only a peer that is judged can be admitted');
    this.#reactor.calls.ioTlsAdmit(this.handle);
    this.#state = 'open';
    // Some may have come behind the handshake, of which no event tells.
    this.#mayRead = true;
    this.#goOn();
  }

  /** The peer is not who it must be. Sends it `reason` and the end, then waits until it has ended too; the owner limits that. */
  refuse(reason: Uint8Array): void {
    if (this.#state !== 'judged') throw new Error('only a peer that is judged can be refused');
    this.#state = 'refused';
    this.#reactor.memory.set(reason, outputAt);
    this.#noteSent(this.#reactor.calls.ioTlsSend(this.handle, outputAt, reason.length));
    this.end();
    this.#mayRead = true;
    this.#goOn();
  }

  /** Nothing comes from the peer until {@link resume}, also no end. What the owner has now is not taken back. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#goOn();
  }

  /**
   * Writes `bytes`, which are the caller's again when this returns. Returns what waits then: 0, or the owner has to stop until
   * `onWritten`. Throws a RangeError where more than 4 MiB would wait, an Error before it is admitted and after {@link end}.
   * After a failure, which is told later, it drops them.
   */
  write(bytes: Buffer): number {
    if (this.#state === 'closed') return 0;
    if (this.#state !== 'open' || this.#isEnding)
      throw new Error('written before the peer is admitted, or after the end');
    if (this.#rest.length + bytes.length > mostWaiting) throw new RangeError('more waits than an owner may let wait');
    if (this.#writeFailure !== 0) return 0;
    this.#isWriting = true;
    const sent = this.#rest.length > 0 ? 0 : this.#send(bytes);
    if (sent < bytes.length && this.#writeFailure === 0) this.#rest.add(sent === 0 ? bytes : bytes.subarray(sent));
    // In a later round also where nothing waits: the owner writes again from there.
    if (this.waiting === 0) this.#reactor.queue(this);
    return this.waiting;
  }

  /** Asks for `onOutput`. */
  wantOutput(): void {
    this.#reactor.queueOutput(this);
  }

  /** close_notify and FIN behind what waits. The other direction goes on. */
  end(): void {
    if (this.#isEnding || (this.#state !== 'open' && this.#state !== 'refused')) return;
    this.#isEnding = true;
    this.#endWhenWritten();
  }

  /** {@link end}, and then closes. */
  closeSoon(): void {
    if (this.#state !== 'open') {
      this.close();
      return;
    }
    this.#closesAtEnd = true;
    this.end();
    if (this.#hasEnded || this.#writeFailure !== 0) this.#reactor.queue(this);
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
    if ((events & (epollEvent.out | brokenEvents)) !== 0) this.#flush();
    // Nothing is read behind the end, so nothing else would find it.
    if ((events & epollEvent.error) !== 0 && this.#endBits !== 0 && this.#state === 'open')
      this.#noteSent(-Math.abs(this.#reactor.calls.ioAsk(this.handle, socketQuestion.error)) || connectionReset);
    if ((events & (epollEvent.in | epollEvent.peerEnded | brokenEvents)) === 0) return;
    this.#mayRead = true;
    this.#goOn();
  }

  onTurn(): void {
    switch (this.#state) {
      case 'handshake':
        this.#step();
        return;
      case 'refused':
        this.#discard();
        return;
      case 'open':
        this.#work();
        return;
      case 'judged':
      case 'closed':
    }
  }

  onOutput(): void {
    if (this.#state === 'open' && !this.#isEnding) this.#owner.onOutput?.();
  }

  #goOn(): void {
    if (this.#state === 'handshake') this.#reactor.queueHandshake(this);
    else if (this.#state === 'refused' || (this.#state === 'open' && (!this.#isPaused || this.#closesAtEnd)))
      this.#reactor.queue(this);
  }

  #step(): void {
    const result = this.#reactor.calls.ioTlsHandshake(this.handle);
    const bits = this.#reactor.status(0);
    this.#noteSent(this.#reactor.status(2));
    if (result < 0) this.#fail(result, 'handshake');
    else if (result === 1) {
      this.#state = 'judged';
      const peer = peerOf(this.#reactor.calls, this.handle);
      if (peer !== null) this.#owner.onHandshake(peer);
    } else if (this.#writeFailure !== 0) this.#fail(this.#writeFailure, 'handshake');
    else if ((bits & statusBit.dry) === 0) this.#reactor.queueHandshake(this);
  }

  #work(): void {
    if (this.#isWriting && this.waiting === 0 && this.#writeFailure === 0) {
      this.#isWriting = false;
      this.#owner.onWritten?.();
    }
    if (this.#isOver()) return;
    if (this.#mayRead && this.#endBits === 0) this.#read();
    else this.#tellEnd();
    if (this.#state !== 'open' || this.#isPaused) return;
    if (this.#mayRead && this.#endBits === 0) this.#reactor.queue(this);
    else if (this.#writeFailure !== 0) this.#fail(this.#writeFailure, 'write');
  }

  /** Whether there is nothing to be read: paused, or closed, which it is after its end where that was asked for. */
  #isOver(): boolean {
    if (this.#closesAtEnd && (this.#hasEnded || this.#writeFailure !== 0)) this.#closed(null);
    return this.#state !== 'open' || this.#isPaused;
  }

  #read(): void {
    const count = this.#reactor.calls.ioTlsReceive(this.handle, scratchAt, quantum, quantum + tlsExtraRoom);
    if (count < 0) {
      this.#fail(count, 'read');
      return;
    }
    const bits = this.#reactor.status(0);
    this.#endBits = bits & (statusBit.end | statusBit.closed | statusBit.failed);
    this.#endNumber = -this.#reactor.status(1);
    this.#mayRead = (bits & statusBit.dry) === 0;
    this.#noteSent(this.#reactor.status(2));
    // With its answer the read sent what waited, and no event may tell that.
    if (this.#waiting === 0 && (this.#isWriting || this.#isEnding)) this.#flush();
    this.bytesRead += count;
    if (count > 0) this.#owner.onData(this.#reactor.memory.subarray(scratchAt, scratchAt + count));
    this.#tellEnd();
  }

  /** What the last read found. While it is paused, its bytes have not all been handled. */
  #tellEnd(): void {
    if (this.#endBits === 0 || this.#state !== 'open' || this.#isPaused || this.#isEndTold) return;
    if ((this.#endBits & statusBit.failed) !== 0) {
      this.#fail(this.#endNumber, 'read');
      return;
    }
    // The kernel tells a failure once: after the write that it was told to, reads find an end.
    if (this.#writeFailure !== 0 && (this.#endBits & statusBit.closed) === 0) {
      this.#fail(this.#writeFailure, 'write');
      return;
    }
    this.#isEndTold = true;
    this.#owner.onEnd((this.#endBits & statusBit.closed) === 0);
  }

  /** Of a peer that is refused: past TLS, so that nothing of it is opened. */
  #discard(): void {
    const count = this.#reactor.calls.ioReceive(this.handle, scratchAt, quantum);
    if (count > 0) this.#reactor.queue(this);
    else if (count !== again || this.#writeFailure !== 0) this.#closed(null);
  }

  /** Returns how many bytes TLS took. */
  #send(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length && this.#waiting === 0 && this.#writeFailure === 0) {
      const piece = bytes.length <= mostTlsBytes ? bytes : bytes.subarray(at, at + mostTlsBytes);
      const result = this.#reactor.calls.ioTlsSendBytes(this.handle, piece);
      this.#noteSent(result);
      if (result >= 0) at += piece.length;
    }
    return at;
  }

  /** What a call says that waits for the kernel, or how it failed. */
  #noteSent(result: number): void {
    // It takes nothing while something waits.
    if (result === again) this.#waiting = Math.max(1, this.#waiting);
    else if (result >= 0) this.#waiting = result;
    else {
      this.#writeFailure ||= result;
      this.#rest.clear();
      this.#waiting = 0;
      // What came before is read, and then the failure is told.
      this.#mayRead = true;
      this.#goOn();
    }
    if (this.#waiting === 0 || this.#watchesOutput) return;
    this.#watchesOutput = true;
    const watched = this.#reactor.watch(this, onEdge | epollEvent.out);
    if (watched < 0) this.#noteSent(watched);
  }

  #flush(): void {
    if (this.#state === 'closed') return;
    if (this.#waiting > 0) this.#noteSent(this.#reactor.calls.ioTlsFlush(this.handle));
    while (this.#waiting === 0 && this.#rest.length > 0) {
      const length = this.#rest.layOut(this.#reactor.memory, outputAt, mostTlsBytes);
      const result = this.#reactor.calls.ioTlsSend(this.handle, outputAt, length);
      if (result >= 0) this.#rest.drop(length);
      this.#noteSent(result);
      if (this.#writeFailure !== 0) return;
    }
    if (this.waiting > 0) return;
    this.#endWhenWritten();
    if (this.#isWriting || this.#closesAtEnd) this.#reactor.queue(this);
  }

  #endWhenWritten(): void {
    if (!this.#isEnding || this.#hasEnded || this.#rest.length > 0 || this.#writeFailure !== 0) return;
    if (!this.#isEndSealed) {
      this.#isEndSealed = true;
      this.#noteSent(this.#reactor.calls.ioTlsEnd(this.handle));
    }
    if (this.#waiting > 0 || this.#writeFailure !== 0) return;
    this.#hasEnded = true;
    // It fails where the peer has reset the connection, which reading tells.
    this.#reactor.calls.ioShutdown(this.handle);
  }

  #fail(number: number, doing: 'read' | 'write' | 'handshake'): void {
    const words = this.#reactor.calls.ioTlsFailure(this.handle);
    this.#closed(words === '' ? failureOfSocket(doing, number) : failureOfTls(words));
  }

  #closed(failure: TlsFailure | null): void {
    this.#close(0);
    this.#owner.onClosed(failure);
  }

  #close(isReset: 0 | 1): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#rest.clear();
    this.#waiting = 0;
    this.#reactor.forget(this);
    this.#reactor.calls.ioClose(this.handle, isReset);
  }
}
