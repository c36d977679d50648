import net from 'node:net';
import { once } from 'node:events';
import {
  relay,
  type RelayCounters,
  type RelayOptions,
  type RelayOutcome,
} from '../../../agent/dataplane/relay/relay.js';
import { BackpressureTracker } from '../../../agent/dataplane/relay/backpressure-tracker.js';
import { TerminationSignal } from '../../../agent/dataplane/connection/termination-signal.js';
import type { RelayPeer } from '../../../agent/dataplane/relay/relay-peer.js';
import { SocketPeer } from './socket-peer.js';
import { StreamPeer } from '../../../agent/dataplane/relay/stream-peer.js';
import { acceptedPair, dialledPair } from './application-pair.js';
import type { TunnelStream } from '../../../agent/dataplane/engine/tunnel-stream.js';
import { http2Engine } from '../tunnel/tunnel-http2-engine.js';
import { leanEngine } from '../tunnel/tunnel-lean-engine.js';
import { TunnelPair, type TunnelEngine } from '../tunnel/tunnel-pair.js';
import type { TestCa } from '../tunnel/tunnel-certificates.js';

/** What is between the relays: nothing, as there is one, or a tunnel (of `node:http2`, or of the lean engine). */
export type Between = 'socket' | 'tunnel' | 'lean tunnel';
/** `numbered`: the relays have sockets of the engine's floor, and not Node's. */
export type RoadKind = Between | `numbered ${Exclude<Between, 'tunnel'>}`;
export type RelayLimits = Partial<
  Pick<RelayOptions, 'halfCloseTimeoutMs' | 'idleTimeoutMs' | 'maxDurationMs' | 'signal'>
>;

/**
 * Two applications and the relays between them: one, or two with a tunnel in the middle.
 */
export class RelayRoad implements AsyncDisposable {
  /** The application that dialled, and the one that accepted. */
  readonly client: net.Socket;
  readonly server: net.Socket;
  readonly counters: RelayCounters;
  /** Of both relays. */
  readonly backpressure: BackpressureTracker;
  /** Of the relay next to the client. */
  readonly outcome: Promise<RelayOutcome>;
  /** Of the relay next to the server; the same one when there is only one. */
  readonly farOutcome: Promise<RelayOutcome>;
  readonly #close: () => Promise<void>;

  private constructor(
    init: Pick<RelayRoad, 'client' | 'server' | 'counters' | 'backpressure' | 'outcome' | 'farOutcome'>,
    close: () => Promise<void>,
  ) {
    this.client = init.client;
    this.server = init.server;
    this.counters = init.counters;
    this.backpressure = init.backpressure;
    this.outcome = init.outcome;
    this.farOutcome = init.farOutcome;
    this.#close = close;
  }

  static async start(kind: RoadKind, ca: TestCa, limits: RelayLimits = {}): Promise<RelayRoad> {
    const engine = engineOf(kind);
    if (engine !== null) {
      const pair = await TunnelPair.start(engine, ca);
      return await RelayRoad.through(pair, { limits, isNumbered: isNumbered(kind) }, () => pair[Symbol.asyncDispose]());
    }
    const { client, server, source, destination, counters, backpressure, unlimited } = await RelayRoad.#ends(
      isNumbered(kind),
    );
    const outcome = relayed({ counters, ...unlimited, ...limits, source, destination });
    return new RelayRoad({ client, server, counters, backpressure, outcome, farOutcome: outcome }, () =>
      end(client, server),
    );
  }

  /** Through a tunnel that several roads share. Start one after the other. `close` is called at the end. */
  static async through(
    pair: TunnelPair,
    how: { readonly limits?: RelayLimits; readonly isNumbered: boolean },
    close = async (): Promise<void> => {},
  ): Promise<RelayRoad> {
    const { client, server, source, destination, counters, backpressure, unlimited } = await RelayRoad.#ends(
      how.isNumbered,
    );
    let farOutcome: Promise<RelayOutcome> = Promise.reject(new Error('no request'));
    farOutcome.catch(() => {});
    const accepted = new Promise<void>((resolve) => {
      pair.onConnect = (request) => {
        farOutcome = relayed({
          ...unlimited,
          counters: newCounters(),
          source: new StreamPeer(request.accept()),
          destination,
        });
        resolve();
      };
    });
    const stream: TunnelStream = await pair.stream();
    await accepted;
    const outcome = relayed({ counters, ...unlimited, ...how.limits, source, destination: new StreamPeer(stream) });
    return new RelayRoad({ client, server, counters, backpressure, outcome, farOutcome }, async () => {
      await end(client, server);
      await close();
    });
  }

  static async #ends(isNumberedRoad: boolean): Promise<RoadEnds> {
    const [client, source] = isNumberedRoad ? await acceptedPair() : await nodePair();
    const [server, destination] = isNumberedRoad ? await dialledPair() : await nodePair();
    const backpressure = new BackpressureTracker();
    const unlimited = { ...noLimits(), throttles: null, shadow: null, backpressure, workloads: [{ slot: 1 }] };
    return { client, server, source, destination, counters: newCounters(), backpressure, unlimited };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

type RoadEnds = Pick<RelayRoad, 'client' | 'server' | 'counters' | 'backpressure'> & {
  readonly source: RelayPeer;
  readonly destination: RelayPeer;
  readonly unlimited: Omit<RelayOptions, 'source' | 'destination' | 'counters'>;
};

/** Null: no tunnel. */
export function engineOf(kind: RoadKind): TunnelEngine | null {
  if (kind === 'tunnel') return http2Engine;
  return kind.endsWith('tunnel') ? leanEngine : null;
}

export function isNumbered(kind: RoadKind): boolean {
  return kind.startsWith('numbered');
}

/** As {@link socketPair}, with the second one as a side of a relay. */
async function nodePair(): Promise<[net.Socket, RelayPeer]> {
  const [application, agent] = await socketPair();
  return [application, new SocketPeer(agent)];
}

/** {@link relay} as a promise. */
export function relayed(options: RelayOptions): Promise<RelayOutcome> {
  return new Promise((resolve) => relay(options, resolve));
}

function newCounters(): RelayCounters {
  return { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null };
}

function noLimits(): Pick<RelayOptions, 'halfCloseTimeoutMs' | 'idleTimeoutMs' | 'maxDurationMs' | 'signal'> {
  return { halfCloseTimeoutMs: 0, idleTimeoutMs: 0, maxDurationMs: 0, signal: new TerminationSignal() };
}

async function end(...sockets: net.Socket[]): Promise<void> {
  for (const socket of sockets) {
    if (socket.closed) continue;
    const gone = once(socket, 'close');
    socket.destroy();
    await gone;
  }
}

/**
 * Two connected TCP sockets of this process: who dialled, and who accepted. Half-open on both sides; `highWaterMark` is that
 * of who accepted.
 */
export async function socketPair(highWaterMark?: number): Promise<[net.Socket, net.Socket]> {
  const listening = net.createServer({
    allowHalfOpen: true,
    noDelay: true,
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
  });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const address = listening.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  const accepted = once(listening, 'connection') as Promise<[net.Socket]>;
  const dialled = net.connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  await once(dialled, 'connect');
  const [socket] = await accepted;
  listening.close();
  for (const each of [dialled, socket]) each.on('error', () => {});
  return [dialled, socket];
}
