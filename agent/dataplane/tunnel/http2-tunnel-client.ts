import type tls from 'node:tls';
import { describeError } from '../../../shared/errors.js';
import { formatHostPort } from '../../../shared/address.js';
import { capturePorts } from '../../ports.js';
import type { Authorized } from '../connection/authorized.js';
import { refused, refusedByUs, unreachable, type Refused } from '../connection/ending.js';
import type { TerminationSignal } from '../connection/termination-signal.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import { Http2TunnelSide } from './http2-tunnel-side.js';
import { IdentityContexts, type CertificateChange } from './identity-contexts.js';
import { KeyedSemaphore } from './keyed-semaphore.js';
import type { StreamOrder } from './stream-order.js';
import type { PlaceInLine, WaitForTunnel } from './waiting-line.js';
import type { OpenResult, TunnelCertificates, TunnelClient, TunnelTarget } from './tunnel.js';
import type { DialRaw, NoTunnel } from './tunnel-dial.js';
import { spreadTunnels, TunnelPool, type PoolGates } from './tunnel-pool.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/**
 * How many tunnels may end under one request. All tunnels of a pool end together when the other agent's certificate is
 * replaced, and a request may meet the end of each; tunnels dialled after that may end too.
 */
const maxLostTunnels = spreadTunnels + 3;
/** How many handshakes one request waits for: others may fill a new tunnel first, and a peer may close each one at once. */
const maxHandshakes = 20;
/** Handshakes of this node with one address at a time; each costs the peer 1 ms. */
const handshakesPerAddress = 16;
/** A certificate is replaced for all its pools at once; this many of them dial at a time. */
const replacementsAtOnce = 4;

/** {@link TunnelClient} over HTTP/2, with any engine. */
export class Http2TunnelClient extends Http2TunnelSide implements TunnelClient {
  readonly #dialRaw: DialRaw;
  readonly #contexts = new IdentityContexts();
  readonly #pools = new Map<string, TunnelPool>();
  readonly #gates: PoolGates = {
    handshakes: new KeyedSemaphore({ limit: handshakesPerAddress }),
    replacements: new KeyedSemaphore({ limit: replacementsAtOnce }),
  };

  /** `dialRaw` makes the sockets. */
  constructor(init: {
    readonly settings: TunnelSettings;
    readonly dialRaw: DialRaw;
    readonly engine: Http2Engine;
    readonly nowMs?: () => number;
  }) {
    super(init);
    this.#dialRaw = init.dialRaw;
  }

  async open(authorized: Authorized, target: TunnelTarget): Promise<OpenResult> {
    const standing: Standing = { stand: null };
    try {
      return await this.#open(authorized, target, standing);
    } finally {
      leave(standing, authorized);
    }
  }

  async #open(authorized: Authorized, target: TunnelTarget, standing: Standing): Promise<OpenResult> {
    const { signal } = authorized;
    const { port } = authorized.address;
    let isNew = true;
    let lost = 'no tunnel stayed open';
    let lostTunnels = 0;
    for (let handshakes = 0; lostTunnels < maxLostTunnels && handshakes <= maxHandshakes;) {
      if (signal.cut !== null) return refused(signal.cut.reason, signal.cut.detail, signal.cut.rule);
      if (this.isDraining) return refused('DRAIN', 'the agent is shutting down');
      const own = this.#ownContext(target);
      if ('ok' in own) return own;
      const pool = this.#poolFor(target);
      const order = pool.orderOf(port);
      // The pool that it stood in line for has ended.
      if (standing.stand !== null && standing.stand.order !== order) leave(standing, authorized);
      if (isNew && !order.line.isEmpty) standing.stand = { place: order.line.stand(), pool, order };
      isNew = false;
      let failure: NoTunnel | null;
      if (standing.stand !== null && !standing.stand.place.isFirst) {
        failure = await signal.waitsFor(unlessCut(standing.stand.place.untilFirst(), signal));
      } else {
        const tunnel = order.choose(pool.pick(own.context));
        if (tunnel !== null && tunnel !== undefined) {
          const answer = tunnel.open(authorized, target.headers);
          order.sent(tunnel);
          // The next one follows at once.
          leave(standing, authorized);
          const result = await answer;
          order.answered();
          pool.forgetIdle(port, order);
          if (result.ok !== 'lost') return result;
          lost = result.detail;
          lostTunnels += 1;
          continue;
        }
        const stand = (standing.stand ??= { place: order.line.stand(), pool, order });
        // One that lost its tunnel, and others have come to the line since.
        if (!stand.place.isFirst) continue;
        if (tunnel === undefined) handshakes += 1;
        failure =
          tunnel === null
            ? await signal.waitsFor(unlessCut(order.allAnswered(), signal))
            : await signal.waitsFor(unlessCut(pool.grow(own.context), signal), pool.askedAtMs);
        if (failure !== null && signal.cut === null) stand.place.fail(failure);
      }
      if (failure === null) continue;
      if (failure.ok !== 'lost') return failure;
      lost = failure.detail;
      lostTunnels += 1;
    }
    return unreachable('PEER_RESET', lost);
  }

  override releaseWorkload(workload: WorkloadName): void {
    const leaving = [...this.#pools].filter(([, pool]) => pool.workload === workload);
    super.releaseWorkload(workload);
    // A pool ends with its workload: one of the same name that comes back gets a new pool.
    for (const [key] of leaving) this.#pools.delete(key);
  }

  protected override groups(): Iterable<TunnelPool> {
    return this.#pools.values();
  }

  protected override useCertificates(certificates: TunnelCertificates): CertificateChange {
    return this.#contexts.replace(certificates);
  }

  /** The source's own certificate. Checked here, because the peer could only report that the handshake failed. */
  #ownContext(target: TunnelTarget): { readonly context: tls.SecureContext } | Refused {
    const identity = target.sourceIdentity;
    try {
      const context = this.#contexts.contextFor(identity);
      if (context === null) return refused('NO_RULES_YET', `no certificate for ${identity} yet`);
      const notAfterMs = this.#contexts.certificateOf(identity)?.notAfterMs ?? 0;
      if (notAfterMs > this.nowMs()) return { context };
      return refused('CERT_EXPIRED', `our certificate for ${identity} has expired`);
    } catch (error) {
      return refusedByUs('TLS_HANDSHAKE', `our certificate for ${identity}: ${describeError(error)}`);
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
        settings: this.settings,
        dialRaw: this.#dialRaw,
        engine: this.engine,
        gates: this.#gates,
        ownContext: () => {
          const own = this.#ownContext(target);
          return this.isDraining || 'ok' in own ? null : own.context;
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

/** Where a request stands in line for room in a tunnel; null: it does not. */
type Standing = {
  stand: { readonly place: PlaceInLine; readonly pool: TunnelPool; readonly order: StreamOrder } | null;
};

function leave(standing: Standing, { address }: Authorized): void {
  const { stand } = standing;
  if (stand === null) return;
  standing.stand = null;
  stand.place.leave();
  stand.pool.forgetIdle(address.port, stand.order);
}

/** The handshake continues for the others who share it; the request that is cut returns at once. */
async function unlessCut(growing: WaitForTunnel, signal: TerminationSignal): WaitForTunnel {
  let onCut = (): void => {};
  const cut = new Promise<Refused>((resolve) => {
    onCut = () => {
      if (signal.cut !== null) resolve(refused(signal.cut.reason, signal.cut.detail, signal.cut.rule));
    };
    signal.onCut(onCut);
  });
  try {
    return await Promise.race([growing, cut]);
  } finally {
    signal.offCut(onCut);
  }
}
