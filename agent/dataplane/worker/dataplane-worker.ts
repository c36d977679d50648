import type net from 'node:net';
import { assertNever } from '../../../shared/assert-never.js';
import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import { applyPatch, type SnapshotPatch } from '../../../shared/wire/snapshot-patch.js';
import { SlowEnds } from '../../../shared/slow-ends.js';
import { sourceOf } from '../../../shared/source-of.js';
import type { ConnectionRecord } from '../connection/connection-record.js';
import { externalNames } from '../../../shared/routing/external-names.js';
import { IdleHeapTrimmer } from '../../thread/idle-heap-trimmer.js';
import { serveHostProbe } from '../flow/host-probe.js';
import { serveTunnelRequest } from '../flow/inbound-tunnel.js';
import { ConnectionWatch } from '../flow/connection-watch.js';
import type { FlowContext } from '../flow/flow-context.js';
import { LiveConnections } from '../flow/live-connections.js';
import { AcceptScheduler } from '../limit/accept-scheduler.js';
import { serveHeld } from '../flow/held-outbound.js';
import { rawDial } from '../flow/dial.js';
import { WaitingBytes } from '../limit/waiting-bytes.js';
import { WorkloadLimits } from '../limit/workload-limits.js';
import { drainConnections } from '../flow/drain-connections.js';
import { giveUpConnection, recordAcceptFailure } from '../flow/run-flow.js';
import type { Accepted } from '../io/io-listener.js';
import { Reactor } from '../io/reactor.js';
import { ApplicationSocket } from '../relay/application-socket.js';
import { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import { peerIp } from '../sockets/socket-addresses.js';
import { ProbeListener } from '../listen/probe-listener.js';
import { capturedDestination } from '../listen/captured-destination.js';
import { Hosting } from '../listen/hosting.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type {
  CertificatesMessage,
  FromWorker,
  PoolWorkerInit,
  RegistryCommand,
  WorkerCommand,
  WorkerDump,
} from '../messages.js';
import { ConnectionCut } from '../connection/termination-signal.js';
import { BackpressureTracker } from '../relay/backpressure-tracker.js';
import { ShadowPool } from '../relay/shadow-pool.js';
import { DestinationUsage } from '../destination-usage.js';
import { DestinationLimits } from '../limit/destination-limits.js';
import { RateLimiter } from '../limit/rate-limiter.js';
import { EndpointHealth } from '../balance/endpoint-health.js';
import { RetryBudget } from '../balance/retry-budget.js';
import { EndpointBalancer } from '../balance/endpoint-balancer.js';
import { resetSocket } from '../../native/addon.js';
import { capturePorts } from '../../ports.js';
import { Reporter, type ReporterSource } from '../flow/reporter.js';
import { Entrance } from './entrance.js';
import { Arrivals } from '../state/arrivals.js';
import { RuleClock } from '../state/rule-clock.js';
import { WorkerState } from '../state/worker-state.js';
import { WorkloadUsage } from '../workload-usage.js';
import { Http2TunnelClient } from '../tunnel/http2-tunnel-client.js';
import { Http2TunnelServer } from '../tunnel/http2-tunnel-server.js';
import type { TunnelPeer } from '../tunnel/http2-tunnel-side.js';
import type { RegistryChange } from '../image/registry-image.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { openFilesLimit } from '../../../shared/open-files.js';

/** How long a drain waits for connections that are being connected. */
const reachingMs = 1000;
/** Time for connections that a drain cuts to end before their tunnels do, on a busy event loop. */
const cutMs = 500;
/** Refusals of a burst that are answered at once, and then one in this time. */
const refusalPace = { atOnce: 256, everyMs: 5 };

/**
 * One data-plane worker: the state, the listeners of every local workload, the tunnels and the open connections. Only
 * {@link receive} changes the state, and after every change all open connections are checked again.
 */
export class DataplaneWorker {
  readonly #workerIndex: number;
  readonly #post: (message: FromWorker) => void;
  readonly #state = new WorkerState();
  readonly #connections: LiveConnections;
  readonly #client: Http2TunnelClient;
  readonly #server: Http2TunnelServer;
  readonly #reporter: Reporter;
  readonly #context: FlowContext;
  readonly #hosting: Hosting;
  readonly #watch: ConnectionWatch;
  readonly #entrance: Entrance;
  readonly #ruleClock: RuleClock;
  readonly #turns = new AcceptScheduler({ nowMs: () => performance.now() });
  readonly #backpressure = new BackpressureTracker();
  readonly #waitingBytes: WaitingBytes;
  #probes: ProbeListener | null = null;
  // A full collection also drops compiled code, which would delay the next connections.
  readonly #heapTrimmer = new IdleHeapTrimmer({ mayPause: () => !this.#connections.hasCarried });

  constructor({
    init,
    engine,
    post,
  }: {
    readonly init: PoolWorkerInit;
    readonly engine: Http2Engine;
    readonly post: (message: FromWorker) => void;
  }) {
    const { workerIndex, settings } = init;
    this.#workerIndex = workerIndex;
    this.#post = post;
    const usage = new WorkloadUsage({ buffer: init.workloadUsage, workers: init.workers });
    this.#waitingBytes = new WaitingBytes({ backpressure: this.#backpressure, usage, workerIndex });
    const destinationUsage = new DestinationUsage({ buffer: init.workloadUsage, workers: init.workers, workerIndex });
    const limits = new WorkloadLimits({ settings, usage, workerIndex });
    this.#connections = new LiveConnections({ state: this.#state, limits });
    this.#client = new Http2TunnelClient({
      settings,
      engine,
      dialRaw: ({ sourceWorkload, sourceIp, destinationIp }) =>
        rawDial({
          descriptors: this.#context.descriptors,
          from: this.#hosted(sourceWorkload),
          target: { ip: destinationIp, port: capturePorts.inboundTunnel },
          client: { ip: sourceIp, port: 0 },
        }),
    });
    this.#server = new Http2TunnelServer({
      settings,
      engine,
      workers: init.workers,
      onConnect: (request) =>
        this.#turns.take(request.peerAddress.ip, () => void serveTunnelRequest(this.#context, request)),
    });
    const health = new EndpointHealth({
      random: Math.random,
      nowMs: () => performance.now(),
      isThere: (endpoint) => this.#state.isThere(endpoint),
      rulesNow: () => this.#state.ejectionRules(),
    });
    this.#reporter = new Reporter({
      post,
      source: { openRecords: () => this.#openRecords(), gauges: () => this.#gauges(), health },
    });
    this.#context = {
      node: init.node,
      state: this.#state,
      arrivals: new Arrivals(),
      settings,
      connections: this.#connections,
      backpressure: this.#backpressure,
      tunnels: this.#client,
      balancer: new EndpointBalancer({ random: Math.random, nowMs: () => performance.now() }),
      destinations: new DestinationLimits({ usage: destinationUsage }),
      rateLimiter: new RateLimiter({ usage: destinationUsage }),
      health,
      retryBudget: new RetryBudget({ nowMs: () => performance.now() }),
      shadows: new ShadowPool({ descriptors: openFilesLimit() }),
      reporter: this.#reporter,
      descriptors: DescriptorReserve.ofProcess(),
      refusals: new SlowEnds({ ...refusalPace, sharers: 2 * init.workers }),
      clock: { nowMs: Date.now },
      random: Math.random,
      nameExternal: externalNames(() => this.#state.snapshot?.externals ?? []),
    };
    this.#ruleClock = new RuleClock({
      clock: this.#context.clock,
      onChange: () => void this.#connections.recheckAll(),
    });
    this.#entrance = new Entrance({
      workerIndex,
      context: this.#context,
      turns: this.#turns,
      usage,
      serveTunnel: (workload, socket) => this.#acceptTunnel(workload, socket),
    });
    this.#hosting = new Hosting({
      hosted: this.#state.hosted,
      backlog: settings.listenBacklog,
      workerIndex,
      handlers: {
        outbound: (workload, accepted) => this.#entrance.accept('outbound', workload, accepted),
        inboundPlaintext: (workload, accepted) => this.#entrance.accept('inboundPlaintext', workload, accepted),
        inboundTunnel: (workload, socket) => this.#entrance.acceptTunnel(workload, socket),
        acceptFailed: (workload, port, error) => recordAcceptFailure(this.#context, workload, port, error),
      },
      late: {
        isLate: (dialled) => this.#state.isAcceptedLate(dialled),
        held: (workload, connect) =>
          this.#turns.take(workload.name, () => void serveHeld(this.#context, workload, connect)),
        unheld: (workload, accepted) => this.#entrance.accept('outbound', workload, accepted),
        acceptFailed: (workload, error) => recordAcceptFailure(this.#context, workload, 'outbound', error),
      },
      acceptsLateFor: ({ slot }) => slot % init.workers === workerIndex,
      onListening: (message) => {
        const workload = this.#state.hosted.get(message.workload);
        if (workload !== undefined && message.error === null) usage.setServed(workerIndex, workload.slot, true);
        post(message);
      },
      onGone: (workload) => {
        usage.setServed(workerIndex, workload.slot, false);
        this.#letGo(workload);
      },
    });
    this.#watch = new ConnectionWatch({
      connections: this.#connections,
      refreshProbing: () => this.#hosting.refreshProbing(),
    });
  }

  receive(command: WorkerCommand): void {
    switch (command.type) {
      case 'registry':
        this.#useRegistry(command);
        return;
      case 'rules':
        this.#useRules(command.patch);
        return;
      case 'rulesAge':
        this.#state.rulesTooOld = command.tooOld;
        return;
      case 'certificates':
        this.#useCertificates(command);
        return;
      case 'probes':
        if (this.#workerIndex === 0) this.#listenForProbes(command.sockets);
        return;
      case 'workloads':
        void this.#hosting.apply(command.list, command.workloads);
        return;
      case 'link':
        this.#entrance.link(command);
        return;
      case 'drain':
        void this.#drain(command.graceMs);
        return;
      case 'settle':
        void this.#connections.whenPresentOnesEnded(command.withinMs).then(() => this.#post({ type: 'settled' }));
        return;
      case 'dump':
        this.#post({ type: 'dump', id: command.id, state: this.#dump() });
        return;
      default:
        assertNever(command);
    }
  }

  /** The control thread has validated the text. */
  #useRules(text: SharedArrayBuffer): void {
    const before = this.#state.snapshot;
    const snapshot = applyPatch(before, JSON.parse(Buffer.from(text).toString('utf8')) as SnapshotPatch);
    // A broken snapshot throws here, and not in the middle of a connection.
    prepareSnapshot(snapshot, before);
    this.#state.useSnapshot(snapshot);
    this.#ruleClock.use(snapshot);
    void this.#connections.recheckAll().then(() => {
      this.#post({ type: 'applied', revision: snapshot.revision });
    });
  }

  #useRegistry({ sequence, ...change }: RegistryCommand): void {
    this.#state.registry.apply(change);
    this.#context.balancer.noteReady(change.newlyReady ?? []);
    void this.#connections.recheckAll().then(() => {
      this.#endUnproved(change);
      if (sequence !== undefined) this.#post({ type: 'registered', sequence });
    });
  }

  /** Connections were cut before, so that their records say why. */
  #endUnproved({ image, upserts }: RegistryChange): void {
    const changed = new Set(upserts.flatMap((entry) => (entry.kind === 'workload' ? entry.addresses : [])));
    if (image === null && changed.size === 0) return;
    // Nothing is registered at the address of a peer of which this agent has not heard yet, and of one that is gone.
    const isUnproved = ({ ip, identity }: TunnelPeer): boolean => {
      if (image === null && !changed.has(ip)) return false;
      const registered = this.#state.registry.workloadAt(ip);
      return registered !== undefined && registered.identity !== identity;
    };
    this.#client.endUnproved(isUnproved);
    this.#server.endUnproved(isUnproved);
  }

  #useCertificates(message: CertificatesMessage): void {
    this.#state.useCertificates(message);
    this.#client.replaceCertificates(message);
    this.#server.replaceCertificates(message);
    void this.#connections.recheckAll();
  }

  #acceptTunnel(workload: HostedWorkload, socket: net.Socket): void {
    const identity = this.#state.registry.workload(workload.name)?.identity;
    // The other agent's records show the reset of its dial.
    if (this.#context.descriptors.isTouchedBySocket(socket)) {
      resetSocket(socket);
      return;
    }
    if (identity === undefined) {
      const source = sourceOf(peerIp(socket));
      this.#context.refusals.end({ socket, source, group: workload.name, end: () => resetSocket(socket) });
      return;
    }
    this.#server.accept(socket, { workload: workload.name, identity });
  }

  #listenForProbes(sockets: readonly number[]): void {
    this.#probes?.close();
    const onConnection = (accepted: Accepted): void => {
      const socket = ApplicationSocket.accepted(Reactor.ofThread(), accepted.handle);
      const captured = capturedDestination(accepted);
      this.#turns.take('host', () => void serveHostProbe(this.#context, socket, captured));
    };
    this.#probes = new ProbeListener({ sockets, backlog: this.#context.settings.listenBacklog, onConnection });
  }

  #letGo(workload: HostedWorkload): void {
    const detail = `${workload.name} left this node`;
    this.#connections.cutWorkload(workload, new ConnectionCut({ reason: 'DRAIN', detail }));
    this.#client.releaseWorkload(workload.name);
    this.#server.releaseWorkload(workload.name);
    this.#context.refusals.endAll(workload.name);
  }

  /** Listeners close first, so that a successor on the same ports gets all new connections; then the tunnels send GOAWAY. */
  async #drain(graceMs: number): Promise<void> {
    this.#probes?.close();
    await this.#hosting.stopListening();
    this.#context.refusals[Symbol.dispose]();
    const startedAtMs = performance.now();
    await this.#entrance.finish(Math.min(graceMs, reachingMs));
    // A connection that was accepted before would be refused by a tunnel that drains.
    await this.#connections.whenPresentOnesReached(Math.min(graceMs, reachingMs));
    const leftMs = Math.max(0, graceMs - (performance.now() - startedAtMs));
    // Connections are cut before the tunnels end, so that records say DRAIN and not that a tunnel ended.
    const tunnelGraceMs = leftMs + cutMs;
    const drained = Promise.all([this.#client.drain(tunnelGraceMs), this.#server.drain(tunnelGraceMs)]);
    const left = await drainConnections({
      connections: this.#connections,
      graceMs: leftMs,
      cutMs,
      giveUp: (connection) => giveUpConnection(this.#context, connection),
    });
    await drained;
    await this.#hosting.releaseAll();
    this.#ruleClock.stop();
    this.#watch.stop();
    this.#reporter.stop();
    this.#heapTrimmer.stop();
    this.#waitingBytes.stop();
    this.#post({ type: 'drained', ...left });
  }

  #hosted(name: WorkloadName): HostedWorkload {
    const hosted = this.#state.hosted.get(name);
    if (hosted === undefined) throw new Error(`workload ${name} has left this node`);
    return hosted;
  }

  *#openRecords(): Iterable<ConnectionRecord> {
    for (const { record } of this.#connections) yield record;
  }

  #gauges(): ReturnType<ReporterSource['gauges']> {
    const client = this.#client.counts();
    const server = this.#server.counts();
    return {
      openConnections: this.#connections.size,
      keptConnections: this.#connections.inGrace.kept,
      drainingConnections: this.#connections.inGrace.draining,
      heldConnects: this.#hosting.heldConnects,
      heldRefusals: this.#context.refusals.size + this.#server.heldHandshakes(),
      openTunnels: client.tunnels + server.tunnels,
      openStreams: client.streams + server.streams,
      bufferedBytes: this.#waitingBytes.bytesInAll,
      refusedHandshakes: this.#server.refusedHandshakes(),
    };
  }

  #dump(): WorkerDump {
    return {
      workerIndex: this.#workerIndex,
      revision: this.#state.snapshot?.revision ?? null,
      registryEntries: this.#state.registry.size,
      listeners: this.#hosting.listeners(),
      tunnels: [...this.#client.dump(), ...this.#server.dump()],
      connections: this.#connections.dump(),
    };
  }
}
