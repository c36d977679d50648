import type net from 'node:net';
import type { TunnelDump } from '../messages.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import { ServerHandshakes, type ProvedPeer } from './server-handshakes.js';
import { ServerTunnel } from './server-tunnel.js';
import type { TunnelSettings } from '../engine/session-options.js';
import {
  refusedHandshakeKinds,
  type RefusedHandshake,
  type TunnelCertificates,
  type TunnelCounts,
  type TunnelListener,
  type TunnelRequest,
  type TunnelServer,
} from './tunnel.js';
import { waitForAll } from './wait-for-all.js';

/** {@link TunnelServer} over HTTP/2, whichever engine speaks it. */
export class Http2TunnelServer implements TunnelServer {
  readonly #settings: TunnelSettings;
  readonly #engine: Http2Engine;
  readonly #onConnect: (request: TunnelRequest) => void;
  readonly #handshakes: ServerHandshakes;
  readonly #tunnels = new Set<ServerTunnel>();
  readonly #refused = Object.fromEntries(refusedHandshakeKinds.map((kind) => [kind, 0])) as Record<
    RefusedHandshake,
    number
  >;
  #isDraining = false;

  /** `onConnect` gets every well-formed request and answers it, now or later, with accept() or refuse(). */
  constructor(options: {
    readonly settings: TunnelSettings;
    readonly engine: Http2Engine;
    readonly onConnect: (request: TunnelRequest) => void;
  }) {
    this.#settings = options.settings;
    this.#engine = options.engine;
    this.#onConnect = options.onConnect;
    this.#handshakes = new ServerHandshakes({
      timeoutMs: options.settings.tlsHandshakeTimeoutMs,
      onPeer: (peer) => this.#serve(peer),
      onRefused: (kind) => this.#count(kind),
    });
  }

  accept(rawSocket: net.Socket, listener: TunnelListener): void {
    if (this.#isDraining) {
      rawSocket.on('error', () => {});
      rawSocket.destroy();
      return;
    }
    this.#handshakes.begin(rawSocket, listener);
  }

  replaceCertificates(certificates: TunnelCertificates): void {
    const { renewed, ended } = this.#handshakes.replaceCertificates(certificates);
    for (const tunnel of this.#tunnels) {
      const validUntilMs = renewed.get(tunnel.ownIdentity);
      if (ended.has(tunnel.ownIdentity)) tunnel.retire();
      // By then the clients have replaced it (`ClientTunnel`), and none of their requests meets the GOAWAY.
      else if (validUntilMs !== undefined) tunnel.retireWithin((validUntilMs - Date.now()) / 2);
    }
  }

  releaseWorkload(workload: string): void {
    this.#handshakes.abort(workload);
    for (const tunnel of this.#tunnels) {
      if (tunnel.workload === workload) tunnel.reset('the workload left');
    }
  }

  dump(): TunnelDump[] {
    return [...this.#tunnels].map((tunnel) => tunnel.dump());
  }

  counts(): TunnelCounts {
    let streams = 0;
    for (const tunnel of this.#tunnels) streams += tunnel.streams;
    return { tunnels: this.#tunnels.size, streams };
  }

  refusedHandshakes(): Readonly<Record<RefusedHandshake, number>> {
    return { ...this.#refused };
  }

  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    this.#handshakes.abort(null);
    for (const tunnel of this.#tunnels) tunnel.retire();
    await waitForAll({ isDone: () => this.#tunnels.size === 0, graceMs });
    for (const tunnel of this.#tunnels) tunnel.end('the agent is shutting down');
    await waitForAll({ isDone: () => this.#tunnels.size === 0, graceMs: 1000 });
  }

  #serve(peer: ProvedPeer): void {
    const tunnel = new ServerTunnel({
      peer,
      engine: this.#engine,
      settings: this.#settings,
      onConnect: this.#onConnect,
      onRefused: (kind) => this.#count(kind),
      onClosed: () => this.#tunnels.delete(tunnel),
    });
    this.#tunnels.add(tunnel);
    if (peer.isOutdated) tunnel.retire();
  }

  #count(kind: RefusedHandshake): void {
    this.#refused[kind] += 1;
  }
}
