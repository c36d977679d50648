import { randomInt } from 'node:crypto';
import type tls from 'node:tls';
import type { TunnelDump } from '../messages.js';
import { ClientTunnel } from './client-tunnel.js';
import type { Http2Engine } from './http2-engine.js';
import type { TunnelSettings } from './session-options.js';
import type { TunnelNotOpened, TunnelTarget } from './tunnel.js';
import { dialTunnel, type DialRaw, type LostTunnel } from './tunnel-dial.js';

/** From this many streams on a tunnel is busy, and another one is made beside it, up to {@link spreadTunnels}. */
const busyStreams = 24;
/** One TCP connection has one congestion window and loses for all its streams: bulk is spread over a few. */
export const spreadTunnels = 4;

/** Why there is not one more tunnel. */
export type NoTunnel = TunnelNotOpened | LostTunnel;

/** The tunnels of one source workload, as one identity, to one address that must prove one identity. */
export class TunnelPool {
  readonly #target: TunnelTarget;
  readonly #address: string;
  readonly #settings: TunnelSettings;
  readonly #dialRaw: DialRaw;
  readonly #engine: Http2Engine;
  readonly #onEmpty: () => void;
  readonly #tunnels = new Set<ClientTunnel>();
  readonly #ending = new AbortController();
  #generation = 0;
  #dialling: Promise<NoTunnel | null> | null = null;

  constructor(options: {
    readonly target: TunnelTarget;
    readonly address: string;
    readonly settings: TunnelSettings;
    readonly dialRaw: DialRaw;
    readonly engine: Http2Engine;
    readonly onEmpty: () => void;
  }) {
    this.#target = options.target;
    this.#address = options.address;
    this.#settings = options.settings;
    this.#dialRaw = options.dialRaw;
    this.#engine = options.engine;
    this.#onEmpty = options.onEmpty;
  }

  get sourceWorkload(): string {
    return this.#target.sourceWorkload;
  }

  get sourceIdentity(): string {
    return this.#target.sourceIdentity;
  }

  get tunnels(): ReadonlySet<ClientTunnel> {
    return this.#tunnels;
  }

  /** The usable tunnel with the fewest streams that has room for one more; a random one of equals. */
  pick(context: tls.SecureContext): ClientTunnel | undefined {
    let best: ClientTunnel | undefined;
    let equals = 0;
    let usable = 0;
    for (const tunnel of this.#tunnels) {
      if (tunnel.isUsable) usable += 1;
      if (!tunnel.hasRoom) continue;
      if (best === undefined || tunnel.streams < best.streams) {
        best = tunnel;
        equals = 1;
      } else if (tunnel.streams === best.streams && randomInt(++equals) === 0) best = tunnel;
    }
    if (best !== undefined && best.streams >= busyStreams && usable < spreadTunnels) void this.grow(context);
    return best;
  }

  /** Adds a tunnel; whoever asks meanwhile waits for the same handshake. Null when there is one more, else why not. */
  async grow(context: tls.SecureContext): Promise<NoTunnel | null> {
    this.#dialling ??= this.#dial(context).finally(() => {
      this.#dialling = null;
      this.#forgetIfEmpty();
    });
    return this.#dialling;
  }

  /** The certificate changed: what is open keeps its streams, what comes gets a new tunnel. */
  renew(): void {
    this.#generation += 1;
    for (const tunnel of this.#tunnels) tunnel.retire();
  }

  /** Ends everything at once, also a handshake under way. */
  end(why: string): void {
    this.#ending.abort();
    for (const tunnel of this.#tunnels) tunnel.end(why);
  }

  /** The workload leaves, with its namespace perhaps: nothing may stay in it. */
  release(): void {
    this.#ending.abort();
    for (const tunnel of this.#tunnels) tunnel.reset('the workload left');
  }

  dump(): TunnelDump[] {
    return [...this.#tunnels].map((tunnel) => tunnel.dump());
  }

  async #dial(context: tls.SecureContext): Promise<NoTunnel | null> {
    const generation = this.#generation;
    const dialled = await dialTunnel({
      target: this.#target,
      address: this.#address,
      dialRaw: this.#dialRaw,
      engine: this.#engine,
      context,
      settings: this.#settings,
      signal: this.#ending.signal,
    });
    if ('ok' in dialled) return dialled;
    const tunnel = new ClientTunnel({
      tunnel: dialled,
      engine: this.#engine,
      settings: this.#settings,
      target: this.#target,
      address: this.#address,
      onClosed: () => {
        this.#tunnels.delete(tunnel);
        this.#forgetIfEmpty();
      },
    });
    this.#tunnels.add(tunnel);
    if (this.#ending.signal.aborted) tunnel.reset('the workload left');
    else if (generation !== this.#generation) tunnel.retire();
    return null;
  }

  #forgetIfEmpty(): void {
    if (this.#tunnels.size === 0 && this.#dialling === null) this.#onEmpty();
  }
}
