import { formatHostPort, parseHostPort, type HostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { longestTimerMs } from '../../thread/scheduler.js';
import { reasonInfo } from '../../../shared/reasons.js';
import { ignoreError } from '../sockets/ignore-error.js';
import type { TunnelDump } from '../messages.js';
import { ConnectionCut } from '../connection/connection-cut.js';
import { TerminationSignal } from '../connection/termination-signal.js';
import { errorCode } from '../engine/http2-error-code.js';
import type { HeadersOfPeer, Http2Engine, ServerSession, ServerStream } from '../engine/http2-engine.js';
import type { ProvedPeer } from './server-handshakes.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { RefusedHandshake, TunnelHeaders, TunnelRefusal, TunnelRequest } from './tunnel.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';
import { keepTunnelAlive } from './tunnel-keepalive.js';

/** A peer that connects and asks for nothing is sent away after this time. */
const firstRequestMs = 9500;
/** After a refusal the peer ends its side of the stream; one that does not is reset. */
const refusedStreamMs = 5000;

/** One HTTP/2 connection from a proved peer to one workload of this host. */
export class ServerTunnel {
  readonly #peer: ProvedPeer;
  readonly #engine: Http2Engine;
  readonly #settings: TunnelSettings;
  readonly #onConnect: (request: TunnelRequest) => void;
  readonly #onRefused: (kind: RefusedHandshake) => void;
  readonly #session: ServerSession;
  readonly #open = new Set<ServerStream>();
  readonly #openedAtMs = Date.now();
  #idleTimer: NodeJS.Timeout | undefined;
  #retireTimer: NodeJS.Timeout | undefined;
  #retireAtMs = 0;
  #stopKeepReading: (() => void) | undefined;
  #hasAsked = false;
  #death = '';
  readonly #whyDead = (): string => this.#death;

  constructor(options: {
    readonly peer: ProvedPeer;
    readonly engine: Http2Engine;
    readonly settings: TunnelSettings;
    readonly onConnect: (request: TunnelRequest) => void;
    readonly onRefused: (kind: RefusedHandshake) => void;
    readonly onClosed: () => void;
  }) {
    this.#peer = options.peer;
    this.#engine = options.engine;
    this.#settings = options.settings;
    this.#onConnect = options.onConnect;
    this.#onRefused = options.onRefused;
    const { socket } = options.peer;
    const session = options.engine.accept(socket, options.settings);
    this.#session = session;
    session.on('error', (error: Error) => {
      this.#noteDeath(error.message);
      options.onRefused('protocol_error');
    });
    socket.on('error', (error: Error) => this.#noteDeath(error.message));
    socket.once('close', () => this.#noteDeath('the connection closed'));
    session.once('close', () => {
      clearTimeout(this.#idleTimer);
      clearTimeout(this.#retireTimer);
      this.#stopKeepReading?.();
      socket.destroy();
      options.onClosed();
    });
    session.on('stream', (stream, headers) => this.#receive(stream, headers));
    keepTunnelAlive({
      session,
      socket,
      intervalMs: this.#settings.tunnelPingIntervalMs,
      timeoutMs: this.#settings.tunnelPingTimeoutMs,
      onDead: () => this.end(`no PING answer within ${this.#settings.tunnelPingTimeoutMs} ms`),
    });
    this.#idleTimer = setTimeout(() => this.#endUnused(), firstRequestMs);
  }

  get workload(): string {
    return this.#peer.listener.workload;
  }

  get ownIdentity(): SpiffeId {
    return this.#peer.listener.identity;
  }

  get streams(): number {
    return this.#open.size;
  }

  /** GOAWAY: the peer opens nothing new on it, and it closes with its last stream. */
  retire(): void {
    this.#session.close();
  }

  /** {@link retire} after this time, or after a shorter one that was said before. */
  retireWithin(delayMs: number): void {
    const atMs = Date.now() + delayMs;
    if (this.#retireTimer !== undefined && this.#retireAtMs <= atMs) return;
    clearTimeout(this.#retireTimer);
    this.#retireAtMs = atMs;
    this.#retireTimer = setTimeout(() => this.retire(), Math.min(Math.max(0, delayMs), longestTimerMs));
    this.#retireTimer.unref();
  }

  /** Ends it at once with every stream; they tell `why`. */
  end(why: string): void {
    this.#noteDeath(why);
    this.#session.destroy();
    this.#peer.socket.destroy();
  }

  /**
   * {@link end} with RST, for a namespace that goes: a socket whose FIN nobody answers any more would keep it alive for
   * minutes, although nothing of this process holds it.
   */
  reset(why: string): void {
    this.#noteDeath(why);
    this.#peer.raw.resetAndDestroy();
    this.end(why);
  }

  dump(): TunnelDump {
    return {
      side: 'server',
      localIdentity: this.#peer.listener.identity,
      peerIdentity: this.#peer.identity,
      peerAddress: formatHostPort(this.#peer.address),
      streams: this.#open.size,
      openedAtMs: this.#openedAtMs,
    };
  }

  #receive(stream: ServerStream, headers: HeadersOfPeer): void {
    this.#hasAsked = true;
    this.#track(stream);
    if (stream.destroyed || stream.closed) return;
    const authority = this.#authorityOf(headers);
    if (authority === undefined) {
      this.#onRefused('bad_request');
      refuse(this.#engine, stream, { reason: 'PROTOCOL_ERROR', rule: '' });
      return;
    }
    this.#onConnect(this.#requestOf(stream, headers, authority));
  }

  /** Undefined unless it is a plain CONNECT to the very address that this tunnel was dialled to (DESIGN §3). */
  #authorityOf(headers: HeadersOfPeer): HostPort | undefined {
    if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== undefined) return undefined;
    const authority = parseHostPort(textOf(headers[':authority']));
    return authority?.ip === this.#peer.localAddress.ip ? authority : undefined;
  }

  #requestOf(stream: ServerStream, headers: HeadersOfPeer, authority: HostPort): TunnelRequest {
    const signal = new TerminationSignal();
    const onGone = (): void => signal.raise(new ConnectionCut({ reason: 'CLIENT_RESET' }));
    stream.once('aborted', onGone);
    stream.once('close', onGone);
    let isAnswered = false;
    const answerOnce = (): void => {
      if (isAnswered) throw new Error('a CONNECT is answered once');
      isAnswered = true;
      stream.off('aborted', onGone);
      stream.off('close', onGone);
    };
    return {
      peerIdentity: this.#peer.identity,
      peerAddress: this.#peer.address,
      authority,
      headers: headersOf(headers),
      workload: this.#peer.listener.workload,
      signal,
      accept: () => {
        answerOnce();
        return this.#accept(stream);
      },
      refuse: (refusal) => {
        answerOnce();
        refuse(this.#engine, stream, refusal);
      },
    };
  }

  #accept(stream: ServerStream): TunnelStream {
    const tunnelStream = this.#engine.asTunnelStream(stream, this.#whyDead);
    if (!stream.destroyed && !stream.closed) stream.respond({ ':status': 200 });
    return tunnelStream;
  }

  #track(stream: ServerStream): void {
    this.#open.add(stream);
    clearTimeout(this.#idleTimer);
    this.#stopKeepReading ??= this.#engine.keepReading(this.#peer.socket);
    stream.on('error', ignoreError);
    const onClose = (): void => {
      this.#open.delete(stream);
      if (this.#open.size === 0) this.#armIdleTimer();
    };
    if (stream.closed && stream.destroyed) onClose();
    else stream.on('close', onClose);
  }

  /** Twice the client's time, so that the client is the one to end an idle tunnel and no request meets the GOAWAY. */
  #armIdleTimer(): void {
    this.#stopKeepReading?.();
    this.#stopKeepReading = undefined;
    const { tunnelIdleTimeoutMs } = this.#settings;
    if (tunnelIdleTimeoutMs === 0 || this.#session.closed) return;
    this.#idleTimer = setTimeout(() => this.retire(), 2 * tunnelIdleTimeoutMs);
    this.#idleTimer.unref();
  }

  #endUnused(): void {
    if (this.#hasAsked) return;
    this.#onRefused('no_request');
    this.end('no request in time');
  }

  #noteDeath(why: string): void {
    if (this.#death === '') this.#death = `tunnel from ${formatHostPort(this.#peer.address)} ended: ${why}`;
  }
}

/** A whole answer with END_STREAM; what the peer sends meanwhile is dropped. */
function refuse(engine: Http2Engine, stream: ServerStream, refusal: TunnelRefusal): void {
  if (stream.destroyed || stream.closed) return;
  stream.respond(
    {
      ':status': reasonInfo(refusal.reason).status,
      'x-culvert-reason': refusal.reason,
      ...(refusal.rule === '' ? {} : { 'x-culvert-rule': refusal.rule.replaceAll(/[^\x20-\x7e]/g, '?') }),
    },
    { endStream: true },
  );
  stream.resume();
  const timer = setTimeout(() => engine.resetStream(stream, errorCode.noError), refusedStreamMs);
  timer.unref();
  stream.once('close', () => clearTimeout(timer));
}

function headersOf(headers: HeadersOfPeer): TunnelHeaders {
  return {
    forwarded: textOf(headers['forwarded']),
    baggage: textOf(headers['baggage']),
    traceparent: textOf(headers['traceparent']),
  };
}

function textOf(value: string | readonly string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}
