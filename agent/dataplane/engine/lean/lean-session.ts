import { EventEmitter } from 'node:events';
import type { ClientSession, ServerSession } from '../http2-engine.js';
import { loopTurn } from '../../../thread/loop-turn.js';
import type { ConnectionViolation } from './hpack/connection-violation.js';
import { EngineConnection } from './engine-connection.js';
import type { EngineLimits } from './engine-limits.js';
import type { EngineStream } from './engine-stream.js';
import { errorCode } from '../http2-error-code.js';
import { FlushTiming } from './flush-timing.js';
import { FrameTurns, promptFrames, type FrameBacklog } from './frame-turns.js';
import type { HeaderMap } from './header-rules.js';
import { LeanStream, type StreamHome } from './lean-stream.js';
import type { Transport, TransportOwner } from './transport.js';

/** How long the peer may take to close a finished connection, or to read why it is being disconnected. */
const lingerMs = 1000;

/** Of this thread. */
const frameTurns = new FrameTurns();

/**
 * One HTTP/2 connection of the lean engine. Everything to be sent in one turn of the event loop, or in a few
 * ({@link FlushTiming}), goes out in one write; the next write follows when the transport has taken it. Until then all other
 * bytes wait in their streams. It reads whether or not it can write.
 */
export class LeanSession extends EventEmitter implements ClientSession, ServerSession, TransportOwner {
  readonly #transport: Transport;
  readonly #isServer: boolean;
  readonly #engine: EngineConnection;
  readonly #home: StreamHome;
  readonly #pings: ((error: Error | null) => void)[] = [];
  readonly #timing: FlushTiming;
  #isWriting = false;
  #isClosing = false;
  #isDestroyed = false;
  /** The transport has closed. */
  #isLost = false;
  #linger: NodeJS.Timeout | undefined;
  /** The turn in which frames were handled last, and how many there were before it. */
  #turn = -1;
  #framesBefore = 0;
  /** What came and has to wait for its turn. The transport is paused while there is any, see {@link Transport.pause}. */
  readonly #waiting: Buffer[] = [];
  readonly #backlog: FrameBacklog = { handle: (mostFrames) => this.#goOn(mostFrames) };

  /** Owns the transport, which has not been started. */
  constructor(init: {
    readonly transport: Transport;
    readonly role: 'client' | 'server';
    readonly limits: EngineLimits;
  }) {
    super();
    const { transport } = init;
    this.#transport = transport;
    this.#timing = new FlushTiming({
      flush: () => this.#flush(),
      mayWait: () => this.#engine.streamCount > 1,
      wantTurn: () => transport.wantOutput(),
    });
    this.#isServer = init.role === 'server';
    this.#engine = new EngineConnection({
      role: init.role,
      limits: init.limits,
      nowMs: () => performance.now(),
      events: {
        onRequest: (stream, headers) => this.#receiveRequest(stream, headers),
        onSettings: () => this.emit('remoteSettings'),
        onPong: () => this.#pings.shift()?.(null),
        onGoaway: (code, debugData) => this.#receiveGoaway(code, debugData),
        onStreamsGone: () => this.#scheduleFlush(),
        onFailure: (violation) => this.#fail(violation),
      },
    });
    this.#home = { engine: this.#engine, scheduleFlush: (bytes) => this.#scheduleFlush(bytes) };
    transport.start(this);
    if (transport.isDestroyed) this.#abandon();
    this.#scheduleFlush();
  }

  get closed(): boolean {
    return this.#isClosing || this.#isDestroyed;
  }

  get destroyed(): boolean {
    return this.#isDestroyed;
  }

  get remoteSettings(): { readonly maxConcurrentStreams: number } {
    return { maxConcurrentStreams: this.#engine.maxOwnStreams };
  }

  request(headers: Readonly<Record<string, string>>): LeanStream {
    let made: LeanStream | undefined;
    this.#engine.request(Object.entries(headers), (stream) => (made = new LeanStream({ home: this.#home, stream })));
    if (made === undefined) throw new Error('the tunnel accepts no new streams');
    this.#scheduleFlush();
    return made;
  }

  ping(onAnswer: (error: Error | null) => void): void {
    this.#pings.push(onAnswer);
    this.#engine.ping();
    this.#scheduleFlush();
  }

  close(): void {
    if (this.closed) return;
    this.#isClosing = true;
    this.#engine.goAway();
    this.#scheduleFlush();
  }

  destroy(): void {
    this.#transport.destroy();
    this.#abandon();
  }

  onBytes(chunk: Buffer): void {
    if (this.#waiting.length > 0) {
      this.#waiting.push(Buffer.from(chunk));
      return;
    }
    const turn = loopTurn();
    if (turn !== this.#turn) {
      this.#turn = turn;
      this.#framesBefore = this.#engine.framesBegun;
    }
    const taken = this.#engine.receive(chunk, this.#framesBefore + promptFrames - this.#engine.framesBegun);
    if (this.#engine.hasOutput) this.#scheduleFlush();
    if (taken === chunk.length) return;
    this.#waiting.push(Buffer.from(chunk.subarray(taken)));
    this.#transport.pause();
    frameTurns.wait(this.#backlog);
  }

  onWritten(): void {
    this.#isWriting = false;
    if (this.#engine.hasOutput && !this.#timing.isUrgent) this.#timing.arm();
    else this.#flush();
  }

  onOutput(): void {
    this.#timing.endTurn();
  }

  onClosed(): void {
    // What came before the end is handled in its turn too.
    this.#isLost = true;
    if (this.#waiting.length === 0) this.#lose();
  }

  /** Handles `mostFrames` of the frames that wait. Returns whether more are left. */
  #goOn(mostFrames: number): boolean {
    const end = this.#engine.framesBegun + mostFrames;
    while (this.#waiting[0] !== undefined && this.#engine.framesBegun < end) {
      const [first] = this.#waiting;
      const taken = this.#engine.receive(first, end - this.#engine.framesBegun);
      if (taken < first.length) this.#waiting[0] = first.subarray(taken);
      else this.#waiting.shift();
    }
    if (this.#engine.hasOutput) this.#scheduleFlush();
    if (this.#waiting.length > 0) return true;
    if (this.#isLost) this.#lose();
    else if (!this.#transport.isDestroyed) this.#transport.resume();
    return false;
  }

  #receiveRequest(stream: EngineStream, headers: HeaderMap): void {
    const made = new LeanStream({ home: this.#home, stream });
    stream.events = made;
    this.emit('stream', made, headers);
  }

  #receiveGoaway(code: number, debugData: Buffer): void {
    this.emit('goaway', code, 0, debugData);
    if (code === errorCode.noError) this.close();
    else this.destroy();
  }

  /** The GOAWAY is in the output; the engine resets the streams after this. */
  #fail(violation: ConnectionViolation): void {
    this.#isDestroyed = true;
    this.emit('error', violation);
    this.#linger ??= setTimeout(() => this.#transport.destroy(), lingerMs);
    this.#scheduleFlush();
  }

  #scheduleFlush(bytes = 0): void {
    this.#timing.request(bytes);
  }

  #flush(): void {
    if (this.#isWriting || this.#transport.isDestroyed) return;
    const parts = this.#engine.pull(this.#transport.writeBytes);
    this.#timing.sent({ isMoreLeft: this.#engine.hasOutput });
    if (parts.length === 0) {
      this.#finishIfDone();
      return;
    }
    this.#isWriting = true;
    this.#transport.write(parts);
  }

  /** Called when nothing is left to be sent. */
  #finishIfDone(): void {
    if (this.#isDestroyed) {
      this.#transport.end();
      return;
    }
    if (!this.#isClosing || this.#engine.streamCount > 0) return;
    // The client closes first: closing with unread bytes makes the kernel send RST, which may overtake our last bytes.
    if (this.#isServer) this.#linger ??= setTimeout(() => this.#transport.end(), lingerMs);
    else this.#transport.end();
  }

  #lose(): void {
    this.#abandon();
    clearTimeout(this.#linger);
    for (const onAnswer of this.#pings.splice(0)) onAnswer(new Error('the tunnel ended'));
    // After the `close` events of the streams.
    setImmediate(() => this.emit('close'));
  }

  #abandon(): void {
    this.#isDestroyed = true;
    this.#waiting.length = 0;
    frameTurns.leave(this.#backlog);
    this.#engine.abandon(errorCode.cancel);
  }
}
