import net from 'node:net';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { HostPort, IpAddress } from '../../../shared/address.js';
import type {
  OpenResult,
  TunnelClient,
  TunnelRequest,
  TunnelServer,
  TunnelTarget,
} from '../../../agent/dataplane/tunnel/tunnel.js';
import type { TunnelStream } from '../../../agent/dataplane/engine/tunnel-stream.js';
import { Authorized } from '../../../agent/dataplane/connection/authorized.js';
import { ConnectionCut, TerminationSignal } from '../../../agent/dataplane/connection/termination-signal.js';
import type { TunnelSettings } from '../../../agent/dataplane/engine/session-options.js';
import { clientIdentity, serverIdentity, type TestCa } from './tunnel-certificates.js';
import { workloadNamed } from '../routing/names.js';
import { PatientTimer, patientMs } from '../../lab/patience.js';

/** What a contract suite needs of an implementation. */
export type TunnelEngine = {
  readonly name: string;
  /** What each of twenty streams moves in each direction at once; 4 MiB when absent. */
  readonly bothWaysBytes?: number;
  /** INITIAL_WINDOW_SIZE of its server; the whole window of a stream when absent. */
  readonly firstWindowBytes?: number;
  /** False for a nghttp2 before 1.61, which takes any number of CONTINUATION frames. True when absent. */
  readonly boundsHeaderBlocks?: boolean;
  client(options: { settings: TunnelSettings; dialRaw: (target: TunnelTarget) => net.Socket }): TunnelClient;
  server(options: { settings: TunnelSettings; onConnect: (request: TunnelRequest) => void }): TunnelServer;
};

/** A test that is about a time limit sets it; for all others no machine is too busy. */
export const testSettings: TunnelSettings = {
  connectTimeoutMs: 120_000,
  tlsHandshakeTimeoutMs: 120_000,
  streamWindowBytes: 4_194_304,
  tunnelWindowBytes: 16_777_216,
  maxStreamsPerTunnel: 100,
  maxConnectionsPerPeer: 10_000,
  tunnelPingIntervalMs: 10_000,
  tunnelPingTimeoutMs: 20_000,
  tunnelIdleTimeoutMs: 300_000,
};

export const serverIp = '127.0.0.9' as IpAddress;
const clientIp = '127.0.0.1' as IpAddress;
export const listener = { workload: workloadNamed('shop/back'), identity: serverIdentity };

type OpenChanges = Partial<TunnelTarget> & { readonly authority?: HostPort };

/** A client and a server with a loopback TCP listener between them, both in this process. */
export class TunnelPair implements AsyncDisposable {
  readonly client: TunnelClient;
  readonly server: TunnelServer;
  readonly settings: TunnelSettings;
  /** Sockets that the client dialled, and the server accepted, in order. */
  readonly dialled: net.Socket[] = [];
  readonly accepted: net.Socket[] = [];
  readonly #listening: net.Server;
  #dialPort: number | undefined;
  readonly #wires: net.Socket[] = [];
  /** What the server does with a request; replace it. */
  onConnect: (request: TunnelRequest) => void = (request) => echo(request.accept());

  /** How the client reaches the server; replace it. */
  dialRaw: (target: TunnelTarget) => net.Socket = () => this.#dial();

  private constructor(engine: TunnelEngine, settings: Partial<TunnelSettings>) {
    this.settings = { ...testSettings, ...settings };
    this.server = engine.server({ settings: this.settings, onConnect: (request) => this.onConnect(request) });
    this.client = engine.client({ settings: this.settings, dialRaw: (target) => this.dialRaw(target) });
    this.#listening = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
      this.accepted.push(socket);
      this.server.accept(socket, listener);
    });
  }

  static async start(engine: TunnelEngine, ca: TestCa, settings: Partial<TunnelSettings> = {}): Promise<TunnelPair> {
    const pair = new TunnelPair(engine, settings);
    pair.client.replaceCertificates(await ca.first(clientIdentity));
    pair.server.replaceCertificates(await ca.first(serverIdentity));
    pair.#listening.listen(0, serverIp);
    await once(pair.#listening, 'listening');
    return pair;
  }

  get port(): number {
    const address = this.#listening.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return address.port;
  }

  target(changes: Partial<TunnelTarget> = {}): TunnelTarget {
    return {
      sourceWorkload: workloadNamed('shop/front'),
      sourceIdentity: clientIdentity,
      sourceIp: clientIp,
      destinationIp: serverIp,
      destinationIdentity: serverIdentity,
      headers: { forwarded: 'for=127.0.0.1', baggage: 'service.name=front', traceparent: '' },
      ...changes,
    };
  }

  /** What a decision of the rules is elsewhere. */
  authorized(changes: { readonly authority?: HostPort; readonly signal?: TerminationSignal } = {}): Authorized {
    const { authority = { ip: serverIp, port: 5432 }, signal = new TerminationSignal() } = changes;
    return new Authorized({ address: authority, signal });
  }

  async open(changes: OpenChanges = {}): Promise<OpenResult> {
    const { authority, ...target } = changes;
    const signal = new TerminationSignal();
    const late = new ConnectionCut({ reason: 'CLIENT_RESET', detail: 'the test waited for two minutes' });
    const timer = setTimeout(() => signal.raise(late), 120_000);
    try {
      const authorized = this.authorized(authority === undefined ? { signal } : { authority, signal });
      return await this.client.open(authorized, this.target(target));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens a stream, or fails with what prevented it. */
  async stream(changes: OpenChanges = {}): Promise<TunnelStream> {
    const result = await this.open(changes);
    if (!result.ok) throw new Error(`${result.reason}: ${result.detail}`);
    return result.stream;
  }

  /** Both halves of one stream. */
  async streamPair(): Promise<{ near: TunnelStream; far: TunnelStream }> {
    const previous = this.onConnect;
    const accepted = new Promise<TunnelStream>((resolve) => {
      this.onConnect = (request) => resolve(request.accept());
    });
    const near = await this.stream();
    this.onConnect = previous;
    return { near, far: await accepted };
  }

  /** From now on every byte between client and server is lost, without a FIN or a RST. Call it before the first open. */
  async useWire(): Promise<() => void> {
    const wire = net.createServer({ allowHalfOpen: true }, (near) => {
      const far = net.connect({ host: serverIp, port: this.port, localAddress: clientIp });
      this.#wires.push(near, far);
      for (const socket of [near, far]) socket.on('error', () => {});
      near.pipe(far);
      far.pipe(near);
    });
    wire.listen(0, serverIp);
    await once(wire, 'listening');
    const address = wire.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    this.#dialPort = address.port;
    return () => {
      wire.close();
      for (const socket of this.#wires) {
        socket.unpipe();
        socket.resume();
        socket.on('data', () => {});
      }
    };
  }

  async stopListening(): Promise<void> {
    const closed = once(this.#listening, 'close');
    this.#listening.close();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.drain(0);
    await this.server.drain(0);
    for (const socket of [...this.dialled, ...this.accepted, ...this.#wires]) socket.destroy();
    if (this.#listening.listening) await this.stopListening();
  }

  #dial(): net.Socket {
    const socket = net.connect({ host: serverIp, port: this.#dialPort ?? this.port, allowHalfOpen: true });
    this.dialled.push(socket);
    return socket;
  }
}

/** Resolves at `close`, whether an error came before it or not. */
export async function closed(stream: TunnelStream): Promise<void> {
  if (stream.isGone) return;
  await withDeadline('the close', new Promise<void>((resolve) => stream.once('close', resolve)));
}

/** Sends back what comes, and the FIN. */
export function echo(stream: Duplex): void {
  stream.on('data', (chunk: Buffer) => {
    if (!stream.write(chunk)) stream.pause();
  });
  stream.on('drain', () => stream.resume());
  stream.once('end', () => stream.end());
}

/** Everything until the end; fails when it is cut short. */
export async function readAll(stream: TunnelStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await withDeadline('the end of a stream', once(stream, 'end'));
  if (stream.wasReset) throw new Error(`reset: ${stream.resetDetail}`);
  return Buffer.concat(chunks);
}

export async function withDeadline<T>(what: string, promise: Promise<T>, deadlineMs = 30_000): Promise<T> {
  let timer: PatientTimer | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = new PatientTimer(deadlineMs, () => reject(new Error(`not within ${deadlineMs} ms: ${what}`)));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer?.clear();
  }
}

/** Polls a state that no event tells of. */
export async function eventually(what: string, isTrue: () => boolean, deadlineMs = 30_000): Promise<void> {
  const startedAtMs = performance.now();
  while (!isTrue()) {
    if (performance.now() - startedAtMs > patientMs(deadlineMs))
      throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}
