import type tls from 'node:tls';
import type { SpiffeId } from '../../../shared/identity.js';
import type { TunnelDump } from '../messages.js';
import { ClientTunnel } from './client-tunnel.js';
import type { KeyedSemaphore } from './keyed-semaphore.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { TunnelNotOpened, TunnelTarget } from './tunnel.js';
import { dialTunnel, type DialRaw, type LostTunnel } from './tunnel-dial.js';

/** From this many streams on a tunnel is busy, and another one is made beside it, up to {@link spreadTunnels}. */
const busyStreams = 24;
/** One TCP connection has one congestion window and loses for all its streams: bulk is spread over a few. */
export const spreadTunnels = 4;

/** A peer that answers nobody must not keep old tunnels in use for long. */
const longestReplacementMs = 60_000;

/** Shared by all pools of a client. */
export type PoolGates = {
  /** By address. */
  readonly handshakes: KeyedSemaphore;
  /** Tunnels that are dialled before they are needed. */
  readonly replacements: KeyedSemaphore;
};

/** Why there is not one more tunnel. */
export type NoTunnel = TunnelNotOpened | LostTunnel;

/** The tunnels of one source workload, as one identity, to one address that must prove one identity. */
export class TunnelPool {
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
  #generation = 0;
  #dialling: Promise<NoTunnel | null> | null = null;

  constructor(options: {
    readonly target: TunnelTarget;
    readonly address: string;
    readonly settings: TunnelSettings;
    readonly dialRaw: DialRaw;
    readonly engine: Http2Engine;
    readonly gates: PoolGates;
    /** For a tunnel that nobody waits for; null when there is to be none. */
    readonly ownContext: () => tls.SecureContext | null;
    readonly onEmpty: () => void;
  }) {
    this.#target = options.target;
    this.#address = options.address;
    this.#settings = options.settings;
    this.#dialRaw = options.dialRaw;
    this.#engine = options.engine;
    this.#gates = options.gates;
    this.#ownContext = options.ownContext;
    this.#onEmpty = options.onEmpty;
  }

  get sourceWorkload(): string {
    return this.#target.sourceWorkload;
  }

  get sourceIdentity(): SpiffeId {
    return this.#target.sourceIdentity;
  }

  get tunnels(): ReadonlySet<ClientTunnel> {
    return this.#tunnels;
  }

  /**
   * A usable tunnel with room for one more stream. Of those in use the one with the fewest, and another one only when that
   * is busy: streams that share a tunnel share its writes, and a storm leaves many tunnels behind for some minutes.
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

  /** Adds a tunnel; whoever asks meanwhile waits for the same handshake. Null when there is one more, else why not. */
  async grow(context: tls.SecureContext): Promise<NoTunnel | null> {
    this.#dialling ??= this.#dial(context).finally(() => {
      this.#dialling = null;
      this.#forgetIfEmpty();
    });
    return this.#dialling;
  }

  /** What is open keeps its streams, what comes gets a new tunnel. */
  retire(): void {
    this.#generation += 1;
    for (const tunnel of this.#tunnels) tunnel.retire();
  }

  /** As {@link retire}, but what is open is used until a new tunnel is up, so that no request waits for a handshake. */
  renew(): void {
    this.#generation += 1;
    void this.#replace([...this.#tunnels]);
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
      gate: this.#gates.handshakes,
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
      onAging: () => void this.#replace([tunnel]),
    });
    this.#tunnels.add(tunnel);
    if (this.#ending.signal.aborted) tunnel.reset('the workload left');
    else if (generation !== this.#generation) tunnel.retire();
    if (!tunnel.isUsable || tunnel.hasRoom) return null;
    // Whoever waits would dial again and again, and each tunnel would stay until it is idle for long enough.
    tunnel.retire();
    return { ok: 'lost', detail: `${this.#address} allows no streams` };
  }

  /** Dials one new tunnel if one of the old is in use, and retires them when it is up or cannot be made. */
  async #replace(old: readonly ClientTunnel[]): Promise<void> {
    const retireOld = (): void => {
      for (const tunnel of old) tunnel.retire();
    };
    const timer = setTimeout(retireOld, longestReplacementMs);
    timer.unref();
    const leave = await this.#gates.replacements.enter('');
    try {
      // May be one with the certificate before.
      await this.#dialling;
      const context = this.#ownContext();
      const isReplaced = [...this.#tunnels].some((tunnel) => tunnel.isUsable && !old.includes(tunnel));
      // Without any tunnel the pool has been forgotten, and nobody would end what it dials.
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
