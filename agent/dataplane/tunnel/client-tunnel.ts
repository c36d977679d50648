import { formatHostPort } from '../../../shared/address.js';
import { longestTimerMs } from '../../thread/scheduler.js';
import { ignoreError } from '../sockets/ignore-error.js';
import type { TerminationSignal } from '../connection/termination-signal.js';
import type { TunnelDump } from '../messages.js';
import { errorCode, errorCodeName } from '../engine/http2-error-code.js';
import type { HeadersOfPeer, Http2Engine, SessionStream } from '../engine/http2-engine.js';
import { ResetBudget } from './reset-budget.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { OpenResult, TunnelHeaders, TunnelTarget } from './tunnel.js';
import type { DialledTunnel, LostTunnel } from './tunnel-dial.js';
import { notOpened, refusalOf } from './tunnel-failure.js';
import { keepTunnelAlive } from './tunnel-keepalive.js';

/** The tunnel ended before there was an answer: no byte of the application was sent, so a fresh tunnel may try. */
export type OpenAttempt = OpenResult | LostTunnel;

/** How much later than the other agent's own connect timeout we give up, so that its answer with the cause arrives. */
const answerGraceMs = 1000;
/** A refusal ends the stream; a peer that does not end its side would fill the tunnel with streams of nothing. */
const refusedStreamMs = 5000;
/**
 * The part of what the peer's certificate has left after which a tunnel is replaced. A server renews its certificate
 * without a word; its GOAWAY comes after half of what the old one had left, and the replacement before that.
 */
const agingPart = 0.25;
/** A tunnel that was used less long ago is replaced before it goes; another is dialled again when it is needed. */
const warmMs = 60_000;

/** One HTTP/2 connection to one destination as one identity, with up to `maxStreamsPerTunnel` streams. */
export class ClientTunnel {
  readonly #tunnel: DialledTunnel;
  readonly #engine: Http2Engine;
  readonly #settings: TunnelSettings;
  readonly #target: TunnelTarget;
  readonly #address: string;
  readonly #openedAtMs = Date.now();
  readonly #resets = new ResetBudget({ nowMs: () => performance.now() });
  readonly #open = new Set<SessionStream>();
  #idleTimer: NodeJS.Timeout | undefined;
  readonly #agingTimer: NodeJS.Timeout | undefined;
  #usedAtMs = 0;
  #stopKeepReading: (() => void) | undefined;
  #isRetired = false;
  #death = '';
  /** One for all streams: one that is made for a stream keeps what was in sight where it was made. */
  readonly #whyDead = (): string => this.#death;

  constructor(options: {
    readonly tunnel: DialledTunnel;
    readonly engine: Http2Engine;
    readonly settings: TunnelSettings;
    readonly target: TunnelTarget;
    readonly address: string;
    readonly onClosed: () => void;
    /** It is time for another one, or the peer takes no new streams on this one. */
    readonly onAging: () => void;
  }) {
    this.#tunnel = options.tunnel;
    this.#engine = options.engine;
    this.#settings = options.settings;
    this.#target = options.target;
    this.#address = options.address;
    const { session, socket } = options.tunnel;
    session.on('error', (error: Error) => this.#noteDeath(error.message));
    session.on('goaway', (code: number) => {
      this.#isRetired = true;
      if (code !== errorCode.noError) this.#noteDeath(`GOAWAY ${errorCodeName(code)}`);
      else options.onAging();
    });
    socket.on('error', (error: Error) => this.#noteDeath(error.message));
    socket.once('close', () => this.#noteDeath('the connection closed'));
    session.once('close', () => {
      this.#isRetired = true;
      clearTimeout(this.#idleTimer);
      clearTimeout(this.#agingTimer);
      this.#stopKeepReading?.();
      socket.destroy();
      options.onClosed();
    });
    keepTunnelAlive({
      session,
      socket,
      intervalMs: this.#settings.tunnelPingIntervalMs,
      timeoutMs: this.#settings.tunnelPingTimeoutMs,
      onDead: () => this.end(`no PING answer within ${this.#settings.tunnelPingTimeoutMs} ms`),
    });
    this.#armIdleTimer();
    const agingMs = agingPart * (options.tunnel.peerNotAfterMs - this.#openedAtMs);
    if (!(agingMs > 0)) return;
    this.#agingTimer = setTimeout(options.onAging, Math.min(agingMs, longestTimerMs));
    this.#agingTimer.unref();
  }

  /** It has streams, or had some not long ago. */
  get isWarm(): boolean {
    return this.#open.size > 0 || Date.now() - this.#usedAtMs < warmMs;
  }

  get streams(): number {
    return this.#open.size;
  }

  get isUsable(): boolean {
    const { session } = this.#tunnel;
    return !this.#isRetired && !session.closed && !session.destroyed;
  }

  get hasRoom(): boolean {
    const peerLimit = this.#tunnel.session.remoteSettings.maxConcurrentStreams ?? Number.POSITIVE_INFINITY;
    return this.isUsable && this.#open.size < Math.min(this.#settings.maxStreamsPerTunnel, peerLimit);
  }

  /** Takes no new streams; GOAWAY now, and the connection closes with its last stream. */
  retire(): void {
    if (!this.isUsable) return;
    this.#isRetired = true;
    this.#tunnel.session.close();
  }

  /** Ends it at once with every stream; they tell `why`. */
  end(why: string): void {
    this.#noteDeath(why);
    this.#tunnel.session.destroy();
    this.#tunnel.socket.destroy();
  }

  /**
   * {@link end} with RST, for a namespace that goes: a socket whose FIN nobody answers any more would keep it alive for
   * minutes, although nothing of this process holds it.
   */
  reset(why: string): void {
    this.#noteDeath(why);
    this.#tunnel.raw.resetAndDestroy();
    this.end(why);
  }

  dump(): TunnelDump {
    return {
      side: 'client',
      localIdentity: this.#target.sourceIdentity,
      peerIdentity: this.#target.destinationIdentity,
      peerAddress: this.#address,
      streams: this.#open.size,
      openedAtMs: this.#openedAtMs,
    };
  }

  /** Occupies a stream at once, before anything is awaited. */
  async open(target: TunnelTarget, signal: TerminationSignal): Promise<OpenAttempt> {
    let stream: SessionStream;
    try {
      stream = this.#tunnel.session.request(connectHeaders(target), { endStream: false });
    } catch (error) {
      this.retire();
      return { ok: 'lost', detail: error instanceof Error ? error.message : String(error) };
    }
    this.#track(stream);
    return await this.#answer(stream, signal);
  }

  #answer(stream: SessionStream, signal: TerminationSignal): Promise<OpenAttempt> {
    const { connectTimeoutMs } = this.#settings;
    return new Promise((resolve) => {
      const settle = (attempt: OpenAttempt): void => {
        clearTimeout(timer);
        signal.offCut(onCut);
        stream.off('close', onClose);
        stream.off('response', onResponse);
        resolve(attempt);
      };
      const giveUp = (attempt: OpenResult): void => {
        settle(attempt);
        this.#engine.resetStream(stream, errorCode.cancel);
      };
      const onCut = (): void => {
        const { cut } = signal;
        if (cut !== null) giveUp(notOpened(cut.reason, cut.message, false, cut.rule));
      };
      const onClose = (): void => settle(this.#closedWithoutAnswer(stream));
      const onResponse = (headers: HeadersOfPeer): void => {
        if (Number(headers[':status']) === 200) {
          const tunnelStream = this.#engine.asTunnelStream(stream, this.#whyDead);
          settle({ ok: true, stream: tunnelStream, peerIdentity: this.#target.destinationIdentity });
          return;
        }
        settle(refusalOf(headers, this.#address));
        endRefused(this.#engine, stream);
      };
      const onLate = (): void =>
        giveUp(notOpened('CONNECT_TIMEOUT', `${this.#address} did not answer the CONNECT in time`, true));
      const timer = connectTimeoutMs === 0 ? undefined : setTimeout(onLate, connectTimeoutMs + answerGraceMs);
      stream.once('response', onResponse);
      stream.once('close', onClose);
      signal.onCut(onCut);
      onCut();
    });
  }

  #closedWithoutAnswer(stream: SessionStream): OpenAttempt {
    const code = stream.rstCode ?? errorCode.noError;
    const { session } = this.#tunnel;
    if (code === errorCode.refusedStream || session.closed || session.destroyed || this.#death !== '') {
      return { ok: 'lost', detail: this.#death === '' ? errorCodeName(code) : this.#death };
    }
    const detail = `${this.#address} answered the CONNECT with RST_STREAM ${errorCodeName(code)}`;
    return notOpened('PROTOCOL_ERROR', detail, true);
  }

  #track(stream: SessionStream): void {
    this.#open.add(stream);
    this.#usedAtMs = Date.now();
    clearTimeout(this.#idleTimer);
    this.#stopKeepReading ??= this.#engine.keepReading(this.#tunnel.socket);
    stream.on('error', ignoreError);
    stream.on('close', () => {
      this.#open.delete(stream);
      if (stream.rstCode !== errorCode.noError) this.#noteReset();
      if (this.#open.size === 0) this.#armIdleTimer();
    });
  }

  /** Also those that the peer sent are counted: that errs towards retiring too early, which costs one handshake. */
  #noteReset(): void {
    this.#resets.spend();
    if (this.#resets.isSpent) this.retire();
  }

  #armIdleTimer(): void {
    this.#stopKeepReading?.();
    this.#stopKeepReading = undefined;
    const { tunnelIdleTimeoutMs } = this.#settings;
    if (tunnelIdleTimeoutMs === 0 || !this.isUsable) return;
    this.#idleTimer = setTimeout(() => this.retire(), tunnelIdleTimeoutMs);
    this.#idleTimer.unref();
  }

  #noteDeath(why: string): void {
    if (this.#death === '') this.#death = `tunnel to ${this.#address} ended: ${why}`;
  }
}

/** END_STREAM, not RST_STREAM: refusals must not eat the budget of resets. Only a peer that leaves its side open gets one. */
function endRefused(engine: Http2Engine, stream: SessionStream): void {
  stream.end();
  stream.resume();
  const timer = setTimeout(() => engine.resetStream(stream, errorCode.cancel), refusedStreamMs);
  timer.unref();
  stream.once('close', () => clearTimeout(timer));
}

function connectHeaders(target: TunnelTarget): Record<string, string> {
  const headers: Record<string, string> = {
    ':method': 'CONNECT',
    ':authority': formatHostPort(target.authority),
  };
  for (const name of ['forwarded', 'baggage', 'traceparent'] satisfies (keyof TunnelHeaders)[]) {
    if (target.headers[name] !== '') headers[name] = target.headers[name];
  }
  return headers;
}
