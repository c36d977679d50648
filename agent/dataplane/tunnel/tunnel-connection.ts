import type net from 'node:net';
import type tls from 'node:tls';
import { resetSocket } from '../../native/addon.js';
import type { TunnelDump } from '../messages.js';
import type { Http2Engine, Session, SessionStream } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { keepTunnelAlive, type TunnelPulse } from './tunnel-keepalive.js';

/** After a refusal the peer ends its side of the stream; a stream that it leaves open is reset. */
const refusedStreamMs = 5000;

/** One HTTP/2 connection between two agents, on either side: its streams, its idle timer, and how it ends. */
export abstract class TunnelConnection {
  protected readonly engine: Http2Engine;
  protected readonly settings: TunnelSettings;
  protected readonly openedAtMs = Date.now();
  /** Why the connection ended, for its streams. One function for all of them: one for each would keep its scope alive. */
  protected readonly whyDead = (): string => this.#death;
  readonly pulse: TunnelPulse;
  readonly #session: Session;
  readonly #socket: tls.TLSSocket;
  readonly #raw: net.Socket;
  readonly #title: string;
  readonly #open = new Set<SessionStream>();
  #idleTimer: NodeJS.Timeout | undefined;
  #stopKeepReading: (() => void) | undefined;
  #death = '';

  /** Owns both sockets from here on. `title` begins the text of its death: `tunnel to 198.18.0.9:15008`. */
  constructor(init: {
    readonly engine: Http2Engine;
    readonly settings: TunnelSettings;
    readonly session: Session;
    readonly socket: tls.TLSSocket;
    /** What `socket` was made of. */
    readonly raw: net.Socket;
    readonly title: string;
    readonly onClosed: () => void;
  }) {
    const { session, socket, settings } = init;
    this.engine = init.engine;
    this.settings = settings;
    this.#session = session;
    this.#socket = socket;
    this.#raw = init.raw;
    this.#title = init.title;
    session.on('error', (error: Error) => this.noteDeath(error.message));
    socket.on('error', (error: Error) => this.noteDeath(error.message));
    socket.once('close', () => this.noteDeath('the connection closed'));
    session.once('close', () => {
      clearTimeout(this.#idleTimer);
      this.#stopKeepReading?.();
      socket.destroy();
      init.onClosed();
    });
    this.pulse = keepTunnelAlive({
      session,
      socket,
      intervalMs: settings.tunnelPingIntervalMs,
      timeoutMs: settings.tunnelPingTimeoutMs,
      onDead: () => this.end(`no PING answer within ${settings.tunnelPingTimeoutMs} ms`),
    });
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#open.size;
  }

  /** Empty while the connection lives. */
  protected get death(): string {
    return this.#death;
  }

  /** It takes no new streams. */
  protected get isClosing(): boolean {
    return this.#session.closed;
  }

  /** Sends GOAWAY: takes no new streams, and closes with its last stream. */
  retire(): void {
    this.#session.close();
  }

  /** Ends at once with every stream; they report `why`. */
  end(why: string): void {
    this.noteDeath(why);
    this.#session.destroy();
    this.#socket.destroy();
  }

  /**
   * {@link end} with RST, for a namespace that leaves: a socket whose FIN is not acknowledged would keep the namespace for
   * minutes, although this process no longer holds it.
   */
  reset(why: string): void {
    this.noteDeath(why);
    resetSocket(this.#raw);
    this.end(why);
  }

  abstract dump(): TunnelDump;

  /** Milliseconds after the last stream until the tunnel retires; 0: never. Read whenever the tunnel becomes idle. */
  protected abstract idleTimeoutMs(): number;

  /** Called for each stream that has closed, before the tunnel becomes idle. */
  protected onStreamClosed?(stream: SessionStream): void;

  protected track(stream: SessionStream): void {
    this.#open.add(stream);
    clearTimeout(this.#idleTimer);
    this.#stopKeepReading ??= this.engine.keepReading(this.#socket);
    stream.on('error', ignoreError);
    const onClose = (): void => {
      this.#open.delete(stream);
      this.onStreamClosed?.(stream);
      if (this.#open.size === 0) this.rest();
    };
    if (stream.closed && stream.destroyed) onClose();
    else stream.on('close', onClose);
  }

  /** There is no stream: retires the tunnel after {@link idleTimeoutMs}. */
  protected rest(): void {
    this.#stopKeepReading?.();
    this.#stopKeepReading = undefined;
    const timeoutMs = this.idleTimeoutMs();
    if (timeoutMs > 0) this.retireUnlessUsed(timeoutMs, () => this.retire()).unref();
  }

  /** Calls `retire` after this time, unless a stream is opened before. */
  protected retireUnlessUsed(afterMs: number, retire: () => void): NodeJS.Timeout {
    this.#idleTimer = setTimeout(retire, afterMs);
    return this.#idleTimer;
  }

  /** The stream was refused with END_STREAM: drops what the peer still sends, and resets with `code` if it never ends. */
  protected dropRefused(stream: SessionStream, code: number): void {
    stream.resume();
    const timer = setTimeout(() => this.engine.resetStream(stream, code), refusedStreamMs);
    timer.unref();
    stream.once('close', () => clearTimeout(timer));
  }

  /** Keeps the first cause. */
  protected noteDeath(why: string): void {
    if (this.#death === '') this.#death = `${this.#title} ended: ${why}`;
  }
}
