import type tls from 'node:tls';
import { describeError } from '../../../shared/errors.js';
import { formatHostPort } from '../../../shared/address.js';
import type { TunnelDump } from '../messages.js';
import { capturePorts } from '../../ports.js';
import type { ConnectionCut } from '../connection/connection-cut.js';
import type { TerminationSignal } from '../connection/termination-signal.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import { KeyedSemaphore } from './keyed-semaphore.js';
import { IdentityContexts } from './identity-contexts.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type {
  OpenResult,
  TunnelCertificates,
  TunnelClient,
  TunnelCounts,
  TunnelNotOpened,
  TunnelTarget,
} from './tunnel.js';
import type { DialRaw } from './tunnel-dial.js';
import { notOpened } from './tunnel-failure.js';
import { spreadTunnels, TunnelPool, type NoTunnel, type PoolGates } from './tunnel-pool.js';
import { waitForAll } from './wait-for-all.js';

/**
 * Tunnels that may go under one request before it is given up. All of a pool go at once when the other agent's
 * certificate is replaced, and a request may meet the end of each; the tunnels dialled after that may go too.
 */
const maxLostTunnels = spreadTunnels + 3;
/** Handshakes one request waits for: others may fill a new tunnel first, and a peer may close each one at once. */
const maxHandshakes = 20;
/** So many of this node's workloads shake hands with one address at a time; each handshake costs the peer 1 ms. */
const handshakesPerAddress = 16;
/** A certificate is replaced under all its pools at once: not all of them dial in the same moment. */
const replacementsAtOnce = 4;

/** {@link TunnelClient} over HTTP/2, whichever engine speaks it. */
export class Http2TunnelClient implements TunnelClient {
  readonly #settings: TunnelSettings;
  readonly #dialRaw: DialRaw;
  readonly #engine: Http2Engine;
  readonly #nowMs: () => number;
  readonly #contexts = new IdentityContexts();
  readonly #pools = new Map<string, TunnelPool>();
  readonly #gates: PoolGates = {
    handshakes: new KeyedSemaphore({ limit: handshakesPerAddress }),
    replacements: new KeyedSemaphore({ limit: replacementsAtOnce }),
  };
  #isDraining = false;

  /** `dialRaw` makes the sockets. `nowMs` is compared with the certificates' end. */
  constructor(options: {
    readonly settings: TunnelSettings;
    readonly dialRaw: DialRaw;
    readonly engine: Http2Engine;
    readonly nowMs?: () => number;
  }) {
    this.#settings = options.settings;
    this.#dialRaw = options.dialRaw;
    this.#engine = options.engine;
    this.#nowMs = options.nowMs ?? Date.now;
  }

  async open(target: TunnelTarget, options: { readonly signal: TerminationSignal }): Promise<OpenResult> {
    const { signal } = options;
    let lost = 'no tunnel stayed open';
    let lostTunnels = 0;
    for (let handshakes = 0; lostTunnels < maxLostTunnels && handshakes <= maxHandshakes;) {
      if (signal.cut !== null) return notOpenedBy(signal.cut);
      if (this.#isDraining) return notOpened('DRAIN', 'the agent is shutting down', false);
      const own = this.#ownContext(target);
      if ('ok' in own) return own;
      const pool = this.#poolFor(target);
      const tunnel = pool.pick(own.context);
      if (tunnel === undefined) {
        const failure = await unlessCut(pool.grow(own.context), signal);
        handshakes += 1;
        if (failure === null) continue;
        if (failure.ok !== 'lost') return failure;
        lost = failure.detail;
        lostTunnels += 1;
        continue;
      }
      const result = await tunnel.open(target, signal);
      if (result.ok !== 'lost') return result;
      lost = result.detail;
      lostTunnels += 1;
    }
    return notOpened('PEER_RESET', lost, true);
  }

  replaceCertificates(certificates: TunnelCertificates): void {
    const { renewed, ended } = this.#contexts.replace(certificates);
    for (const pool of this.#pools.values()) {
      const validUntilMs = renewed.get(pool.sourceIdentity);
      if (ended.has(pool.sourceIdentity)) pool.retire();
      else if (validUntilMs === undefined) continue;
      else if (validUntilMs > this.#nowMs()) pool.renew();
      else pool.retire();
    }
  }

  releaseWorkload(workload: string): void {
    for (const [key, pool] of this.#pools) {
      if (pool.sourceWorkload !== workload) continue;
      this.#pools.delete(key);
      pool.release();
    }
  }

  dump(): TunnelDump[] {
    return [...this.#pools.values()].flatMap((pool) => pool.dump());
  }

  counts(): TunnelCounts {
    let tunnels = 0;
    let streams = 0;
    for (const pool of this.#pools.values()) {
      tunnels += pool.tunnels.size;
      for (const tunnel of pool.tunnels) streams += tunnel.streams;
    }
    return { tunnels, streams };
  }

  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    const pools = [...this.#pools.values()];
    for (const pool of pools) pool.retire();
    await waitForAll({ isDone: () => pools.every((pool) => pool.tunnels.size === 0), graceMs });
    for (const pool of pools) pool.end('the agent is shutting down');
    await waitForAll({ isDone: () => pools.every((pool) => pool.tunnels.size === 0), graceMs: 1000 });
  }

  /** What this node has for the source; checked here, because a peer could only say that the handshake failed. */
  #ownContext(target: TunnelTarget): { readonly context: tls.SecureContext } | TunnelNotOpened {
    const identity = target.sourceIdentity;
    try {
      const context = this.#contexts.contextFor(identity);
      if (context === null) return notOpened('NO_RULES_YET', `no certificate for ${identity} yet`, false);
      const notAfterMs = this.#contexts.certificateOf(identity)?.notAfterMs ?? 0;
      if (notAfterMs > this.#nowMs()) return { context };
      return notOpened('CERT_EXPIRED', `our certificate for ${identity} has expired`, false);
    } catch (error) {
      return notOpened('TLS_HANDSHAKE', `our certificate for ${identity}: ${describeError(error)}`, false);
    }
  }

  #poolFor(target: TunnelTarget): TunnelPool {
    const { sourceWorkload, sourceIdentity, sourceIp, destinationIp, destinationIdentity } = target;
    const key = `${sourceWorkload} ${sourceIdentity} ${sourceIp} ${destinationIp} ${destinationIdentity}`;
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      const made = new TunnelPool({
        target,
        address: formatHostPort({ ip: destinationIp, port: capturePorts.inboundTunnel }),
        settings: this.#settings,
        dialRaw: this.#dialRaw,
        engine: this.#engine,
        gates: this.#gates,
        ownContext: () => {
          const own = this.#ownContext(target);
          return this.#isDraining || 'ok' in own ? null : own.context;
        },
        onEmpty: () => {
          if (this.#pools.get(key) === made) this.#pools.delete(key);
        },
      });
      pool = made;
      this.#pools.set(key, pool);
    }
    return pool;
  }
}

function notOpenedBy(cut: ConnectionCut): TunnelNotOpened {
  return notOpened(cut.reason, cut.message, false, cut.rule);
}

/** The handshake goes on for those who share it; who gave up gets the cut. */
async function unlessCut(growing: Promise<NoTunnel | null>, signal: TerminationSignal): Promise<NoTunnel | null> {
  let onCut = (): void => {};
  const cut = new Promise<TunnelNotOpened>((resolve) => {
    onCut = () => {
      if (signal.cut !== null) resolve(notOpenedBy(signal.cut));
    };
    signal.onCut(onCut);
  });
  try {
    return await Promise.race([growing, cut]);
  } finally {
    signal.offCut(onCut);
  }
}
