import { formatHostPort, parseHostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { longestTimerMs } from '../../thread/scheduler.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import { reasonInfo } from '../../../shared/reasons.js';
import type { RefusedHandshake } from '../connection/failure-reasons.js';
import type { TunnelDump } from '../messages.js';
import { ConnectionCut, TerminationSignal } from '../connection/termination-signal.js';
import { errorCode } from '../engine/http2-error-code.js';
import type { HeadersOfPeer, Http2Engine, ServerStream } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';
import type { OriginalDestination } from '../sockets/socket-addresses.js';
import type { TunnelGroup, TunnelPeer } from './http2-tunnel-side.js';
import type { PeerUse } from './peer-uses.js';
import type { ProvedPeer } from './server-handshakes.js';
import { textOf, type TunnelHeaders, type TunnelRefusal, type TunnelRequest } from './tunnel.js';
import { TunnelConnection } from './tunnel-connection.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** A peer that connects and opens no stream is disconnected after this time. */
const firstRequestMs = 9500;

/** One HTTP/2 connection from a proved peer to one workload of this host. */
export class ServerTunnel extends TunnelConnection implements TunnelGroup {
  readonly connections = [this];
  readonly #peer: ProvedPeer;
  readonly #use: PeerUse;
  readonly #limitPassed: () => string | null;
  readonly #onConnect: (request: TunnelRequest) => void;
  readonly #onRefused: (kind: RefusedHandshake) => void;
  readonly #onAnswered: () => void;
  readonly #onGivenUp: () => void;
  #retireTimer: NodeJS.Timeout | undefined;
  #retireAtMs = 0;

  constructor(init: {
    readonly peer: ProvedPeer;
    readonly engine: Http2Engine;
    readonly settings: TunnelSettings;
    readonly onConnect: (request: TunnelRequest) => void;
    readonly onRefused: (kind: RefusedHandshake) => void;
    /** A stream was answered with 200. */
    readonly onAnswered: () => void;
    /** The peer has ended a stream before it was answered. */
    readonly onGivenUp: () => void;
    /** What the peer uses in all its tunnels; this one counts its streams there. */
    readonly use: PeerUse;
    readonly limitPassed: () => string | null;
    readonly onClosed: () => void;
  }) {
    const { peer, engine, settings } = init;
    const session = engine.accept(peer.socket, settings);
    super({
      engine,
      settings,
      session,
      socket: peer.socket,
      raw: peer.raw,
      title: `tunnel from ${formatHostPort(peer.address)}`,
      onClosed: () => {
        clearTimeout(this.#retireTimer);
        init.onClosed();
      },
    });
    this.#peer = peer;
    this.#use = init.use;
    this.#limitPassed = init.limitPassed;
    this.#onConnect = init.onConnect;
    this.#onRefused = init.onRefused;
    this.#onAnswered = init.onAnswered;
    this.#onGivenUp = init.onGivenUp;
    session.on('error', () => init.onRefused('protocol_error'));
    session.on('stream', (stream, headers) => this.#receive(stream, headers));
    this.retireUnlessUsed(firstRequestMs, () => {
      this.#onRefused('no_request');
      this.end('no request in time');
    });
  }

  get workload(): WorkloadName {
    return this.#peer.listener.workload;
  }

  get ownIdentity(): SpiffeId {
    return this.#peer.listener.identity;
  }

  get peer(): TunnelPeer {
    return { ip: this.#peer.address.ip, identity: this.#peer.identity };
  }

  /**
   * Sends GOAWAY after half of what the replaced certificate has left: by then the clients have replaced the tunnel, and
   * none of their requests meets the GOAWAY. A GOAWAY that is due earlier stays due.
   */
  renew(leftMs: number): void {
    const delayMs = leftMs / 2;
    const atMs = Date.now() + delayMs;
    if (this.#retireTimer !== undefined && this.#retireAtMs <= atMs) return;
    clearTimeout(this.#retireTimer);
    this.#retireAtMs = atMs;
    this.#retireTimer = setTimeout(() => this.retire(), Math.min(Math.max(0, delayMs), longestTimerMs));
    this.#retireTimer.unref();
  }

  release(): void {
    this.reset('the workload left');
  }

  dump(): TunnelDump {
    return {
      side: 'server',
      localIdentity: this.#peer.listener.identity,
      peerIdentity: this.#peer.identity,
      peerAddress: formatHostPort(this.#peer.address),
      streams: this.streams,
      openedAtMs: this.openedAtMs,
    };
  }

  /** Twice the client's time, so that the client ends an idle tunnel and no request meets a GOAWAY. */
  protected override idleTimeoutMs(): number {
    return this.isClosing ? 0 : 2 * this.settings.tunnelIdleTimeoutMs;
  }

  protected override onStreamClosed(): void {
    this.#use.streams -= 1;
  }

  #receive(stream: ServerStream, headers: HeadersOfPeer): void {
    this.#use.streams += 1;
    this.track(stream);
    if (stream.destroyed || stream.closed) return;
    const authority = this.#authorityOf(headers);
    if (authority === undefined) {
      this.#onRefused('bad_request');
      this.#refuse(stream, { reason: 'PROTOCOL_ERROR', rule: null });
      return;
    }
    this.#onConnect(this.#requestOf(stream, headers, authority));
  }

  /** Undefined unless it is a plain CONNECT to the same address that this tunnel was dialled to. */
  #authorityOf(headers: HeadersOfPeer): OriginalDestination | undefined {
    if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== undefined) return undefined;
    const authority = parseHostPort(textOf(headers[':authority']));
    return authority?.ip === this.#peer.localAddress.ip ? (authority as OriginalDestination) : undefined;
  }

  #requestOf(stream: ServerStream, headers: HeadersOfPeer, authority: OriginalDestination): TunnelRequest {
    const signal = new TerminationSignal();
    const onGone = (): void => {
      if (signal.cut === null) this.#onGivenUp();
      signal.raise(new ConnectionCut({ reason: 'CLIENT_RESET' }));
    };
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
      pulse: this.pulse,
      limitPassed: this.#limitPassed(),
      workload: this.#peer.listener.workload,
      signal,
      accept: () => {
        answerOnce();
        return this.#accept(stream);
      },
      refuse: (refusal) => {
        answerOnce();
        this.#refuse(stream, refusal);
      },
    };
  }

  #accept(stream: ServerStream): TunnelStream {
    const tunnelStream = this.engine.asTunnelStream(stream, this.whyDead);
    if (!stream.destroyed && !stream.closed) {
      stream.respond({ ':status': 200 });
      this.#onAnswered();
    }
    return tunnelStream;
  }

  /** A complete answer with END_STREAM. */
  #refuse(stream: ServerStream, { reason, rule }: TunnelRefusal): void {
    if (stream.destroyed || stream.closed) return;
    stream.respond(
      {
        ':status': reasonInfo(reason).status,
        'x-culvert-reason': reason,
        ...(rule === null ? {} : { 'x-culvert-rule': formatRuleRef(rule).replaceAll(/[^\x20-\x7e]/g, '?') }),
      },
      { endStream: true },
    );
    this.dropRefused(stream, errorCode.noError);
  }
}

function headersOf(headers: HeadersOfPeer): TunnelHeaders {
  return {
    forwarded: textOf(headers['forwarded']),
    baggage: textOf(headers['baggage']),
    traceparent: textOf(headers['traceparent']),
  };
}
