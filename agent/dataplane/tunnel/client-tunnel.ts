import { formatHostPort, type HostPort } from '../../../shared/address.js';
import { longestTimerMs } from '../../thread/scheduler.js';
import type { Authorized } from '../connection/authorized.js';
import { refused, unreachable } from '../connection/ending.js';
import { answerFailure } from '../connection/failure-reasons.js';
import type { TunnelDump } from '../messages.js';
import { errorCode, errorCodeName } from '../engine/http2-error-code.js';
import type { ClientSession, HeadersOfPeer, Http2Engine, SessionStream } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import { ResetBudget } from './reset-budget.js';
import { textOf, type OpenResult, type TunnelHeaders, type TunnelTarget } from './tunnel.js';
import { TunnelConnection } from './tunnel-connection.js';
import type { DialledTunnel, LostTunnel } from './tunnel-dial.js';

/** `lost`: the tunnel ended before it answered. No byte of the application was sent, so another tunnel may try. */
export type OpenAttempt = OpenResult | LostTunnel;

/** Added to the other agent's own connect timeout, so that its answer with the cause arrives first. */
const answerGraceMs = 1000;
/**
 * Part of the remaining life of the peer's certificate after which a tunnel is replaced. A server does not announce a new
 * certificate: it sends GOAWAY after half of what the old one had left, and the replacement has to come before that.
 */
const agingPart = 0.25;
/** A tunnel used within this time is replaced before it ends; any other is dialled again when it is needed. */
const warmMs = 60_000;

/** One HTTP/2 connection to one destination as one identity, with up to `maxStreamsPerTunnel` streams. */
export class ClientTunnel extends TunnelConnection {
  readonly #session: ClientSession;
  readonly #target: TunnelTarget;
  readonly #address: string;
  readonly #resets = new ResetBudget({ nowMs: () => performance.now() });
  readonly #agingTimer: NodeJS.Timeout | undefined;
  #usedAtMs = 0;
  #isRetired = false;

  constructor(init: {
    readonly tunnel: DialledTunnel;
    readonly engine: Http2Engine;
    readonly settings: TunnelSettings;
    readonly target: TunnelTarget;
    readonly address: string;
    readonly onClosed: () => void;
    /** A replacement is due, or the peer takes no new streams on this tunnel. */
    readonly onAging: () => void;
  }) {
    const { session, peerNotAfterMs } = init.tunnel;
    super({
      ...init,
      ...init.tunnel,
      title: `tunnel to ${init.address}`,
      onClosed: () => {
        this.#isRetired = true;
        clearTimeout(this.#agingTimer);
        init.onClosed();
      },
    });
    this.#session = session;
    this.#target = init.target;
    this.#address = init.address;
    session.on('goaway', (code: number) => {
      this.#isRetired = true;
      if (code !== errorCode.noError) this.noteDeath(`GOAWAY ${errorCodeName(code)}`);
      else init.onAging();
    });
    const agingMs = agingPart * (peerNotAfterMs - this.openedAtMs);
    if (agingMs > 0) this.#agingTimer = setTimeout(init.onAging, Math.min(agingMs, longestTimerMs)).unref();
    this.rest();
  }

  /** It has streams, or had some a short time ago. */
  get isWarm(): boolean {
    return this.streams > 0 || Date.now() - this.#usedAtMs < warmMs;
  }

  get isUsable(): boolean {
    return !this.#isRetired && !this.#session.closed && !this.#session.destroyed;
  }

  get hasRoom(): boolean {
    const peerLimit = this.#session.remoteSettings.maxConcurrentStreams ?? Number.POSITIVE_INFINITY;
    return this.isUsable && this.streams < Math.min(this.settings.maxStreamsPerTunnel, peerLimit);
  }

  /** Resolves when the other agent has answered a PING, when the tunnel ends, or after `withinMs`. */
  async answersPing(withinMs: number): Promise<void> {
    if (this.#session.destroyed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#session.ping(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  override retire(): void {
    if (!this.isUsable) return;
    this.#isRetired = true;
    super.retire();
  }

  dump(): TunnelDump {
    return {
      side: 'client',
      localIdentity: this.#target.sourceIdentity,
      peerIdentity: this.#target.destinationIdentity,
      peerAddress: this.#address,
      streams: this.streams,
      openedAtMs: this.openedAtMs,
    };
  }

  /** Occupies a stream at once, before anything is awaited. */
  async open(authorized: Authorized, headers: TunnelHeaders): Promise<OpenAttempt> {
    let stream: SessionStream;
    try {
      stream = this.#session.request(connectHeaders(authorized.address, headers), { endStream: false });
    } catch (error) {
      this.retire();
      return { ok: 'lost', detail: error instanceof Error ? error.message : String(error) };
    }
    this.#usedAtMs = Date.now();
    this.track(stream);
    return await this.#answer(stream, authorized);
  }

  #answer(stream: SessionStream, { signal }: Authorized): Promise<OpenAttempt> {
    const { connectTimeoutMs } = this.settings;
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
        this.engine.resetStream(stream, errorCode.cancel);
      };
      const onCut = (): void => {
        const { cut } = signal;
        if (cut !== null) giveUp(refused(cut.reason, cut.detail, cut.rule));
      };
      const onClose = (): void => settle(this.#closedWithoutAnswer(stream));
      const onResponse = (headers: HeadersOfPeer): void => {
        const status = Number(headers[':status']);
        if (status === 200) {
          const tunnelStream = this.engine.asTunnelStream(stream, this.whyDead);
          const { destinationIdentity: peerIdentity } = this.#target;
          settle({ ok: true, stream: tunnelStream, peerIdentity, pulse: this.pulse });
          return;
        }
        const reason = textOf(headers['x-culvert-reason']);
        const rule = textOf(headers['x-culvert-rule']);
        settle(answerFailure({ status, reason, rule, address: this.#address }));
        // END_STREAM, because a RST_STREAM for each refusal would use up the budget of resets.
        stream.end();
        this.dropRefused(stream, errorCode.cancel);
      };
      const onLate = (): void =>
        giveUp(unreachable('CONNECT_TIMEOUT', `${this.#address} did not answer the CONNECT in time`));
      const timer = connectTimeoutMs === 0 ? undefined : setTimeout(onLate, connectTimeoutMs + answerGraceMs);
      stream.once('response', onResponse);
      stream.once('close', onClose);
      signal.onCut(onCut);
      onCut();
    });
  }

  #closedWithoutAnswer(stream: SessionStream): OpenAttempt {
    const code = stream.rstCode ?? errorCode.noError;
    const { closed, destroyed } = this.#session;
    if (code === errorCode.refusedStream || closed || destroyed || this.death !== '') {
      return { ok: 'lost', detail: this.death === '' ? errorCodeName(code) : this.death };
    }
    const detail = `${this.#address} answered the CONNECT with RST_STREAM ${errorCodeName(code)}`;
    return unreachable('PROTOCOL_ERROR', detail);
  }

  /** Resets by the peer count too: retiring too early costs only one handshake. */
  protected override onStreamClosed(stream: SessionStream): void {
    if (stream.rstCode === errorCode.noError) return;
    this.#resets.spend();
    if (this.#resets.isSpent) this.retire();
  }

  protected override idleTimeoutMs(): number {
    return this.isUsable ? this.settings.tunnelIdleTimeoutMs : 0;
  }
}

function connectHeaders(authority: HostPort, headers: TunnelHeaders): Record<string, string> {
  const all: Record<string, string> = { ':method': 'CONNECT', ':authority': formatHostPort(authority) };
  for (const name of ['forwarded', 'baggage', 'traceparent'] satisfies (keyof TunnelHeaders)[]) {
    if (headers[name] !== '') all[name] = headers[name];
  }
  return all;
}
