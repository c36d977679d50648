import type net from 'node:net';
import { refusedHandshakeKinds, type RefusedHandshake } from '../connection/failure-reasons.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { Http2TunnelSide } from './http2-tunnel-side.js';
import type { CertificateChange } from './identity-contexts.js';
import { ServerHandshakes, type ProvedPeer } from './server-handshakes.js';
import { PeerUses } from './peer-uses.js';
import { ServerTunnel } from './server-tunnel.js';
import type { TunnelCertificates, TunnelListener, TunnelRequest, TunnelServer } from './tunnel.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/**
 * What a stream costs that its peer gives up before it is answered, in handshakes that prove nothing. A tunnel takes a thousand
 * resets at once and few after them, so a peer that does nothing else gets a new tunnel, and so a thousand more, each second.
 */
const costOfGivenUp = 1 / 250;

/** {@link TunnelServer} over HTTP/2, with any engine. */
export class Http2TunnelServer extends Http2TunnelSide implements TunnelServer {
  readonly #onConnect: (request: TunnelRequest) => void;
  readonly #handshakes: ServerHandshakes;
  readonly #tunnels = new Set<ServerTunnel>();
  readonly #uses: PeerUses;
  readonly #refused = Object.fromEntries(refusedHandshakeKinds.map((kind) => [kind, 0])) as Record<
    RefusedHandshake,
    number
  >;

  /**
   * `onConnect` gets every well-formed request and answers it, now or later, with accept() or refuse(). `workers`: the threads
   * of the agent that have such a server; default: one.
   */
  constructor(init: {
    readonly settings: TunnelSettings;
    readonly engine: Http2Engine;
    readonly onConnect: (request: TunnelRequest) => void;
    readonly workers?: number;
  }) {
    super(init);
    this.#uses = new PeerUses({ limits: init.settings, workers: init.workers ?? 1 });
    this.#onConnect = init.onConnect;
    this.#handshakes = new ServerHandshakes({
      timeoutMs: init.settings.tlsHandshakeTimeoutMs,
      // Each thread also holds clients that are refused.
      sharers: 2 * (init.workers ?? 1),
      onPeer: (peer) => this.#serve(peer),
      onRefused: (kind) => this.#count(kind),
    });
  }

  accept(rawSocket: net.Socket, listener: TunnelListener): void {
    if (this.isDraining) {
      rawSocket.on('error', ignoreError);
      rawSocket.destroy();
      return;
    }
    this.#handshakes.begin(rawSocket, listener);
  }

  refusedHandshakes(): Readonly<Record<RefusedHandshake, number>> {
    return { ...this.#refused };
  }

  heldHandshakes(): number {
    return this.#handshakes.held;
  }

  protected override groups(): Iterable<ServerTunnel> {
    return this.#tunnels;
  }

  protected override useCertificates(certificates: TunnelCertificates): CertificateChange {
    return this.#handshakes.replaceCertificates(certificates);
  }

  protected override abort(workload: WorkloadName | null): void {
    this.#handshakes.abort(workload);
  }

  #serve(peer: ProvedPeer): void {
    const use = this.#uses.beginTunnel(peer);
    if (use === null) {
      this.#count('overload');
      peer.socket.destroy();
      return;
    }
    const tunnel = new ServerTunnel({
      peer,
      engine: this.engine,
      settings: this.settings,
      onConnect: this.#onConnect,
      onRefused: (kind) => {
        if (kind === 'protocol_error') this.#handshakes.punish(peer);
        this.#count(kind);
      },
      onAnswered: () => this.#uses.streamAnswered(use),
      onGivenUp: () => {
        if (this.#uses.isGivenUpForNothing(use)) this.#handshakes.charge(peer, costOfGivenUp);
      },
      use,
      limitPassed: () => this.#uses.exceeded(use),
      onClosed: () => {
        this.#tunnels.delete(tunnel);
        this.#uses.tunnelEnded(use);
      },
    });
    this.#tunnels.add(tunnel);
    if (peer.isOutdated) tunnel.retire();
  }

  #count(kind: RefusedHandshake): void {
    this.#refused[kind] += 1;
  }
}
