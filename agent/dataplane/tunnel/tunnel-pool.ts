import type tls from 'node:tls';
import type { SpiffeId } from '../../../shared/identity.js';
import { ClientTunnel } from './client-tunnel.js';
import type { KeyedSemaphore } from './keyed-semaphore.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { TunnelGroup, TunnelPeer } from './http2-tunnel-side.js';
import { StreamOrder } from './stream-order.js';
import type { TunnelTarget } from './tunnel.js';
import { dialTunnel, type DialRaw, type NoTunnel } from './tunnel-dial.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** With this many streams a tunnel is busy, and another one is made, up to {@link spreadTunnels}. */
const busyStreams = 24;
/** A TCP connection has one congestion window, and a lost packet delays all its streams: bulk is spread over a few. */
export const spreadTunnels = 4;

/** Bounds how long old tunnels stay in use when the peer does not answer. */
const longestReplacementMs = 60_000;

/** Shared by all pools of a client. */
export type PoolGates = {
  /** By address. */
  readonly handshakes: KeyedSemaphore;
  /** For tunnels that are dialled before they are needed. */
  readonly replacements: KeyedSemaphore;
};

/** The tunnels of one source workload, as one identity, to one address that must prove one identity. */
export class TunnelPool implements TunnelGroup {
  readonly #target: TunnelTarget;
  readonly #address: string;
  readonly #settings: TunnelSettings;
  readonly #dialRaw: DialRaw;
  readonly #engine: Http2Engine;
  readonly #gates: PoolGates;
  readonly #ownContext: () => tls.SecureContext | null;
  readonly #onEmpty: () => void;
  readonly #tunnels = new Set<ClientTunnel>();
  readonly #ending = new AbortController();
  /** By the application's port; only those that are opening streams. */
  readonly #orders = new Map<number, StreamOrder>();
  #generation = 0;
  #dialling: Promise<NoTunnel | null> | null = null;
  #askedAtMs: number | null = null;

  constructor(init: {
    readonly target: TunnelTarget;
    readonly address: string;
    readonly settings: TunnelSettings;
    readonly dialRaw: DialRaw;
    readonly engine: Http2Engine;
    readonly gates: PoolGates;
    /** For a tunnel that no request waits for; null when none is to be dialled. */
    readonly ownContext: () => tls.SecureContext | null;
    readonly onEmpty: () => void;
  }) {
    this.#target = init.target;
    this.#address = init.address;
    this.#settings = init.settings;
    this.#dialRaw = init.dialRaw;
    this.#engine = init.engine;
    this.#gates = init.gates;
    this.#ownContext = init.ownContext;
    this.#onEmpty = init.onEmpty;
  }

  get workload(): WorkloadName {
    return this.#target.sourceWorkload;
  }

  get ownIdentity(): SpiffeId {
    return this.#target.sourceIdentity;
  }

  get peer(): TunnelPeer {
    return { ip: this.#target.destinationIp, identity: this.#target.destinationIdentity };
  }

  get connections(): ReadonlySet<ClientTunnel> {
    return this.#tunnels;
  }

  /**
   * A usable tunnel with room for one more stream: of those in use the one with the fewest streams, and another one only
   * when that one is busy. Streams that share a tunnel share its writes, and a storm leaves many tunnels for some minutes.
   */
  pick(context: tls.SecureContext): ClientTunnel | undefined {
    let best: ClientTunnel | undefined;
    let idle: ClientTunnel | undefined;
    let usable = 0;
    let inUse = 0;
    for (const tunnel of this.#tunnels) {
      if (tunnel.isUsable) usable += 1;
      if (tunnel.streams > 0) inUse += 1;
      if (!tunnel.hasRoom) continue;
      if (tunnel.streams === 0) idle = tunnel;
      else if (best === undefined || tunnel.streams < best.streams) best = tunnel;
    }
    if (best === undefined) return idle;
    if (best.streams < busyStreams) return best;
    if (idle !== undefined && inUse < spreadTunnels) return idle;
    if (usable < spreadTunnels) void this.grow(context);
    return best;
  }

  orderOf(port: number): StreamOrder {
    let order = this.#orders.get(port);
    if (order === undefined) {
      order = new StreamOrder();
      this.#orders.set(port, order);
    }
    return order;
  }

  forgetIdle(port: number, order: StreamOrder): void {
    if (order.isIdle && this.#orders.get(port) === order) this.#orders.delete(port);
  }

  /** When the tunnel that is dialled had its turn, in terms of `performance.now()`; null: it waits for it. */
  readonly askedAtMs = (): number | null => this.#askedAtMs;

  /** Adds a tunnel. Calls during the handshake share it. Null when a tunnel was added, otherwise why not. */
  async grow(context: tls.SecureContext): Promise<NoTunnel | null> {
    this.#dialling ??= this.#dial(context).finally(() => {
      this.#dialling = null;
      this.#forgetIfEmpty();
    });
    return this.#dialling;
  }

  retire(): void {
    this.#generation += 1;
    for (const tunnel of this.#tunnels) tunnel.retire();
  }

  /** The old tunnels are used until a new one is up, so that no request waits for a handshake. */
  renew(leftMs: number): void {
    if (leftMs <= 0) {
      this.retire();
      return;
    }
    this.#generation += 1;
    void this.#replace([...this.#tunnels]);
  }

  end(why: string): void {
    this.#ending.abort();
    for (const tunnel of this.#tunnels) tunnel.end(why);
  }

  release(): void {
    this.#ending.abort();
    for (const tunnel of this.#tunnels) tunnel.reset('the workload left');
  }

  async #dial(context: tls.SecureContext): Promise<NoTunnel | null> {
    const generation = this.#generation;
    this.#askedAtMs = null;
    const dialled = await dialTunnel({
      target: this.#target,
      address: this.#address,
      dialRaw: this.#dialRaw,
      engine: this.#engine,
      context,
      settings: this.#settings,
      gate: this.#gates.handshakes,
      signal: this.#ending.signal,
      onAsked: () => {
        this.#askedAtMs = performance.now();
      },
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
      onAging: () => void this.#replace([tunnel]),
    });
    this.#tunnels.add(tunnel);
    if (this.#ending.signal.aborted) tunnel.reset('the workload left');
    else if (generation !== this.#generation) tunnel.retire();
    if (!tunnel.isUsable || tunnel.hasRoom) return null;
    // Requests that wait would dial again and again, and each tunnel would stay until its idle timeout.
    tunnel.retire();
    return { ok: 'lost', detail: `${this.#address} allows no streams` };
  }

  /** Dials one new tunnel if one of the old ones is in use, and retires those when it is up or cannot be made. */
  async #replace(old: readonly ClientTunnel[]): Promise<void> {
    const retireOld = (): void => {
      for (const tunnel of old) tunnel.retire();
    };
    const timer = setTimeout(retireOld, longestReplacementMs);
    timer.unref();
    const leave = await this.#gates.replacements.enter('');
    try {
      // That tunnel may still have the old certificate.
      await this.#dialling;
      const context = this.#ownContext();
      const isReplaced = [...this.#tunnels].some((tunnel) => tunnel.isUsable && !old.includes(tunnel));
      // A pool without tunnels was dropped by its client, and what it dialled would never be ended.
      const isWanted = !isReplaced && this.#tunnels.size > 0 && old.some((tunnel) => tunnel.isWarm);
      if (context !== null && isWanted && !this.#ending.signal.aborted) await this.grow(context);
    } finally {
      leave();
      clearTimeout(timer);
      retireOld();
    }
  }

  #forgetIfEmpty(): void {
    if (this.#tunnels.size === 0 && this.#dialling === null) this.#onEmpty();
  }
}
