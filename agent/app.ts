import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { Registry } from 'prom-client';
import { describeError, type CulvertError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { keepPrivate } from '../shared/private-state.js';
import { version } from '../shared/version.js';
import { openAgentEndpoints, type AgentEndpoints } from './admin/agent-endpoints.js';
import { EndpointCertificate } from './admin/endpoint-certificate.js';
import { EndpointMetrics } from './admin/endpoint-metrics.js';
import { AgentView } from './admin/agent-view.js';
import type { ReadinessReport } from './admin/readiness.js';
import { parseProbers } from './capture/firewall/probers.js';
import type { CgroupFound } from './capture/own-cgroup.js';
import type { RuleOwnership } from './capture/rule-ownership.js';
import { WorkloadCapture } from './capture/workload-capture.js';
import { dataplaneThreads, type AgentSettings } from './config/agent-settings.js';
import type { PoolWorkerInit } from './dataplane/messages.js';
import { dataplaneSettings } from './config/dataplane-settings-table.js';
import { parseListenAddress } from '../shared/config/listen-address.js';
import { Cni, cniSocketOf } from './control/cni/cni.js';
import { captureControl } from './control/workloads/capture-control.js';
import { CaptureLedger } from './control/workloads/capture-ledger.js';
import { ControlPlane } from './control/control-plane.js';
import { EnrolmentFollower } from './control/followers/enrolment-follower.js';
import { FlowPublisher } from './telemetry/flows/flow-publisher.js';
import { obtainCredentials } from './control/join/membership.js';
import { resolveNodeName } from './control/join/node-name.js';
import { Rejoining } from './control/join/rejoining.js';
import { namesInAgentState, StateDirectory } from './control/state/state-directory.js';
import { ProbeSockets } from './dataplane/pool/probe-sockets.js';
import { WorkerPool } from './dataplane/pool/worker-pool.js';
import { AgentSocket } from './control/succession/agent-socket.js';
import { TakingOver } from './control/succession/taking-over.js';
import type { CniInstaller } from './native/cni-installer.js';
import { ownNetnsInode } from './native/netns.js';
import { AccessLog } from './telemetry/access-log.js';
import { AgentMetrics } from './telemetry/agent-metrics.js';
import { externalNames } from '../shared/routing/external-names.js';
import { FlowAggregator } from './telemetry/flows/flow-aggregator.js';
import { FlowMetrics } from './telemetry/flows/flow-metrics.js';
import { FlowTally } from './telemetry/flows/flow-tally.js';
import { IdleHeapTrimmer } from './thread/idle-heap-trimmer.js';
import { registerHostGauges } from './telemetry/host-gauges.js';
import { NamespaceProbe } from './telemetry/namespace-probe.js';
import { registerStateGauges } from './telemetry/state-gauges.js';

/** Until then, a workload that the process before served may still become known. */
const unclaimedTimeoutMs = 10_000;

export type AgentOptions = {
  readonly settings: AgentSettings;
  readonly log: Log;
  /** What `/config` of the admin endpoint shows: the effective settings and their sources, without secrets. */
  readonly shownConfiguration: unknown;
  /** See {@link AgentFacts}. Default: null. */
  readonly failModeProblem?: string | null;
  /** In which cgroup this process makes its sockets; without it, in none of its own. */
  readonly cgroup?: CgroupFound;
  /** Puts the CNI plugin into the chain of this node; without it, another program does. */
  readonly cniInstaller?: CniInstaller | null;
  /** Listening sockets that the supervisor kept; they become the agent's. */
  readonly kept?: readonly number[];
  /** Starts a data-plane thread; without it, one that loads its code first. */
  readonly spawn?: (init: PoolWorkerInit) => Worker;
  /** Default: nothing else changes the rules of its namespaces. */
  readonly ownership?: RuleOwnership;
  /** Called once, when every workload whose namespace exists is captured and served. */
  readonly onServing?: () => void;
  /** The set of listening sockets changed: what a supervisor keeps is out of date. */
  readonly onSockets?: () => void;
  /** This process is to stop: a start that fails does not wait for connections that it has accepted. */
  readonly stopping?: AbortSignal;
};

export type StopOptions = {
  /** How long open connections may continue. */
  readonly graceMs: number;
  /** Removes the capture rules first. Otherwise they stay, and new connections are refused. */
  readonly removesCapture: boolean;
  /** Ends the grace period early. */
  readonly atOnce?: AbortSignal;
  /**
   * Another process keeps the listening sockets: serve new connections too while the open ones go on, because the next
   * agent starts only after this one has ended.
   */
  readonly isServing?: boolean;
};

export type Stopped = {
  /** Data-plane threads are left that cannot be ended, or were not waited for. `process.exit()` may wait for them for ever. */
  readonly hasThreadsLeft: boolean;
};

export type RunningAgent = AsyncDisposable & {
  readonly ports: AgentEndpoints['ports'];
  readonly readiness: () => ReadinessReport;
  /** Whether every workload is served, but for those that failed: see `agent/admin/serving.ts`. */
  readonly isServing: () => boolean;
  /** Resolves when the host has joined and serves (at once if it had joined before); rejects if it never can. */
  readonly joined: Promise<void>;
  /** Resolves when another process has taken over this host: only open connections are left here, and `stop` is due. */
  readonly succeeded: Promise<void>;
  /** See `Rejoining`. */
  readonly moved: Promise<CulvertError>;
  /** Whether the controller says that the installation is being taken away, as it says now. Never rejects. */
  isUninstalled(): Promise<boolean>;
  /** Checks the capture rules of every workload and of the host now, because the supervisor may have removed some. */
  recheckCapture(): Promise<void>;
  /** Stops cleanly, `graceMs` and some seconds later at the latest. Safe to call twice. */
  stop(options: StopOptions): Promise<Stopped>;
};

/**
 * Starts one agent in this process: the endpoints first, so that /readyz reports what is missing from the first moment;
 * then the join; then data plane, capture and control. Throws CulvertError if a setting or an address cannot be used.
 * Disposing stops the agent at once and leaves the capture in place (fail closed).
 *
 * If an agent runs with this state directory, the new one takes over from it: it listens on the same sockets, and when it
 * serves every workload the other lets go, and the new one opens its endpoints and manages the host. A start that fails
 * before leaves the running agent as it was.
 */
export async function startAgent({
  settings,
  log,
  shownConfiguration,
  failModeProblem = null,
  cgroup,
  cniInstaller = null,
  kept = [],
  spawn,
  ownership,
  onServing,
  onSockets,
  stopping,
}: AgentOptions): Promise<RunningAgent> {
  const node = resolveNodeName(settings.node);
  const addresses = {
    admin: settings.adminAddress === null ? null : parseListenAddress(settings.adminAddress, '--admin-address'),
    metrics: parseListenAddress(settings.metricsAddress, '--metrics-address'),
    health: parseListenAddress(settings.healthAddress, '--health-address'),
  };
  const probers = parseProbers(settings.hostProbes);
  const startedAtMs = Date.now();
  const certificate = await EndpointCertificate.open({
    certificateFile: settings.endpointCertificate,
    keyFile: settings.endpointKey,
    log,
  });
  const takingOver = new TakingOver({ stateDir: settings.stateDir, kept, isWanted: settings.takeOver });
  const abort = new AbortController();
  const workers = dataplaneThreads(settings);
  const registry = new Registry();
  const metrics = new AgentMetrics({
    registry,
    maxSeries: settings.maxMetricSeries,
    idleTimeoutMs: settings.metricIdleTimeoutMs,
    now: () => Date.now(),
  });
  const accessLog = new AccessLog({ log, mode: settings.accessLog });
  const directory = new StateDirectory({ path: settings.stateDir });
  const capture = new WorkloadCapture({
    log,
    settings: {
      compareIntervalMs: settings.captureCheckIntervalMs,
      selfTestIntervalMs: Math.min(5000, settings.captureCheckIntervalMs),
    },
    onRepair: (repair) => metrics.captureRepaired(repair.name),
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(ownership === undefined ? {} : { ownership }),
    probers,
  });
  capture.warmUp();
  const { maxConnectionsPerWorkload, maxWaitingBytesPerWorkload } = settings;
  const view = new AgentView({
    node,
    version,
    startedAtMs,
    workersWanted: workers,
    maxConnectionsPerWorkload,
    maxWaitingBytesPerWorkload,
    capture,
    hostProbes: settings.hostProbes,
    failModeProblem,
  });
  registerStateGauges(registry, view.observed());
  const endpointMetrics = new EndpointMetrics({ registry });
  const probe = new NamespaceProbe({ registry, log, targets: () => view.namespaces() });
  const openEndpoints = async (): Promise<AgentEndpoints> =>
    (view.endpoints = await openAgentEndpoints({
      addresses,
      beforeTakeOver: !takingOver.isInCharge,
      certificate,
      kept: takingOver.takeEndpointSockets(),
      log,
      sources: {
        registry,
        onCut: (endpoint, why) => endpointMetrics.cut(endpoint, why),
        readiness: () => view.readiness(),
        isAlive: () => view.isAlive(),
        configuration: () => shownConfiguration,
        state: () => view.dump(),
        // An agent that waits for its join looks for credentials by itself, every half a minute at least.
        rejoin: async () => (await view.plane?.rejoin()) ?? { isComplete: true },
        workers: async () => (await view.pool?.dump()) ?? [],
      },
    }));
  let endpoints = takingOver.from === null ? await openEndpoints() : null;
  const hostGauges = registerHostGauges(registry);
  // Nothing on this thread is urgent enough to be hurt by a pause.
  const heapTrimmer = new IdleHeapTrimmer({ mayPause: () => true });

  let agentSocket: AgentSocket | null = null;
  let isSucceeded = false;
  const joining = { settings: { ...settings, node }, directory, version, log };
  const rejoining = new Rejoining({
    join: joining,
    credentials: () => view.plane?.credentials ?? null,
    inCharge: takingOver.inCharge,
    onJoined: async () => await view.plane?.rejoin(),
  });
  const bringUp = async (): Promise<void> => {
    await keepPrivate(settings.stateDir, namesInAgentState, log);
    const credentials = await obtainCredentials({
      ...joining,
      signal: abort.signal,
      onProblem: (problem) => (view.joinProblem = problem),
    });
    const state = await directory.readState(log);
    const statements = await directory.readStatements(log);
    const { namespaces } = await directory.readCaptured(log);
    const pool = new WorkerPool({
      workers,
      node,
      trustDomain: credentials.trustDomain,
      settings: dataplaneSettings(settings),
      log,
      kept: takingOver.workloadSockets,
      ...(spawn === undefined ? {} : { spawn }),
      ...(onSockets === undefined ? {} : { onSockets }),
      sharesSockets: () => !takingOver.isInCharge || isSucceeded || agentSocket?.hasSuccessor === true,
    });
    view.follow(pool);
    const flows = new FlowPublisher({
      aggregator: new FlowAggregator({
        nameExternal: externalNames(() => view.plane?.snapshot?.externals ?? []),
      }),
      store: async (bytes) => await (await view.startedPlane.startedLink()).storeFlows(bytes),
      sendRecent: async (bytes) => await (await view.startedPlane.startedLink()).reportRecentFlows(bytes),
      tally: new FlowTally({
        path: join(settings.stateDir, 'flows.tally'),
        log,
        hasPredecessor: takingOver.from !== null,
      }),
      metrics: new FlowMetrics({ registry }),
      log,
      nowMs: Date.now,
      windowMs: settings.flowWindowMs,
    });
    view.flows = flows;
    pool.on('report', (report, workerIndex) => {
      flows.report(report, workerIndex);
      metrics.report(report, workerIndex);
      accessLog.report(report);
    });
    pool.on('workerLost', (workerIndex) => metrics.workerLost(workerIndex));
    const enrolment =
      cniSocketOf(settings) === null
        ? null
        : new EnrolmentFollower({
            node,
            directory,
            inCharge: () => takingOver.inCharge,
            log,
            onWriteFailed: () => metrics.stateWriteFailed(),
          });
    const told = await directory.readEnrolment(log);
    if (told !== undefined) enrolment?.restore(told, credentials.signingPublicKeys);
    const plane = new ControlPlane({
      settings,
      node,
      version,
      startedAtMs,
      credentials,
      directory,
      enrolment,
      ledger: new CaptureLedger({ file: directory.captured, entries: namespaces, log }),
      pool,
      capture: captureControl(capture, takingOver.inCharge),
      ownInode: ownNetnsInode(),
      ownCgroup: cgroup !== undefined && 'inode' in cgroup ? cgroup.inode : null,
      metrics,
      log,
      said: () => view.said(),
      onOtherKeys: () => void rejoining.checkOtherMesh(),
      onWorkloads: view.announceServing(() => {
        // Connections to workloads that have left this host wait in them.
        pool.sockets.closeUnclaimed();
        onServing?.();
      }),
    });
    await pool.start();
    // Nor may they wait for ever if this host's workloads are not known.
    takingOver.inChargeFor(unclaimedTimeoutMs, () => pool.sockets.closeUnclaimed());
    if (abort.signal.aborted) return;
    view.plane = plane;
    view.cni = Cni.start({
      settings,
      installer: cniInstaller,
      reconciler: plane.reconciler,
      sandboxes: plane.sandboxes,
      enrolment,
      isComplete: () => plane.isRegistryComplete,
      isCurrent: () => plane.isConnected,
      inCharge: takingOver.inCharge,
      log,
    });
    if (probers.length > 0) {
      const init = { backlog: settings.listenBacklog, kept: takingOver.takeProbeSockets() };
      view.probeSockets = new ProbeSockets({ ...init, onOpen: (sockets) => pool.send({ type: 'probes', sockets }) });
      // Not before the rules are this one's: the agent that still serves would share its probes with it.
      void takingOver.inCharge.then(() => abort.signal.aborted || view.probeSockets?.open()).catch(() => undefined);
    }
    await plane.start(state, statements);
    void rejoining.checkExpired();
    probe.start();
  };
  const joined = bringUp();
  // Callers may await it and get the failure, but they need not.
  joined.catch(() => undefined);

  /** Ends everything by which two agents could act on one host. */
  const letGo = async (o: Parameters<ControlPlane['stop']>[0]): Promise<void> => {
    abort.abort();
    await joined.catch(() => undefined);
    probe.close();
    view.cni?.close();
    rejoining[Symbol.dispose]();
    await view.plane?.stop(o);
  };
  let stopped: Promise<Stopped> | null = null;
  let announceSuccession = (): void => undefined;
  const succeeded = new Promise<void>((resolve) => (announceSuccession = resolve));
  const openSocket = (): Promise<AgentSocket> =>
    AgentSocket.open({
      stateDir: settings.stateDir,
      log,
      isStopping: () => stopped !== null,
      serveHttp: (connection) => (endpoints === null ? connection.destroy() : endpoints.serveAdmin(connection)),
      onOpen: () => onSockets?.(),
      sockets: {
        ofWorkloads: () => view.pool?.sockets.all() ?? [],
        ofEndpoints: () => [...(endpoints?.sockets() ?? []), ...(view.probeSockets?.sockets ?? [])],
      },
      letGo: async () => {
        isSucceeded = true;
        try {
          await letGo({ removesCapture: false, hasSuccessor: true, isLastOfHost: false });
          await capture.close();
          // Workers serve theirs until they drain. No socket that is left may take probes from the successor.
          view.probeSockets?.[Symbol.dispose]();
          // They listen no longer from here on. The successor need not wait for the answers that are still due.
          void endpoints?.[Symbol.asyncDispose]();
        } catch (error) {
          log.error({ err: error }, 'the agent could not let go in order');
        }
        announceSuccession();
      },
    });
  const stopNow = async (options: StopOptions): Promise<Stopped> => {
    // The rules are the successor's by now.
    const removesCapture = options.removesCapture && !isSucceeded;
    takingOver.giveUp();
    if (removesCapture) await view.cni?.takeOut();
    const isLastOfHost = takingOver.isInCharge && !isSucceeded;
    await letGo({ removesCapture, hasSuccessor: false, isLastOfHost });
    // What the open connections need is stopped after they have ended.
    const drained = await drainPool(view.pool, options);
    view.probeSockets?.[Symbol.dispose]();
    await view.flows?.close();
    await view.plane?.disconnect();
    // Another agent may have taken over meanwhile: the rules are its own by now.
    if (removesCapture && !isSucceeded) await capture.releaseAll();
    await capture.close();
    hostGauges.dispose();
    heapTrimmer.stop();
    certificate?.[Symbol.dispose]();
    await endpoints?.[Symbol.asyncDispose]();
    agentSocket?.close();
    return drained;
  };
  const stop = (options: StopOptions): Promise<Stopped> => (stopped ??= stopNow(options));
  try {
    if (takingOver.from !== null) {
      await joined;
      await takingOver.whenListening(() => view.notListening(takingOver.servedBefore));
      // What can go wrong goes wrong before the running agent lets go.
      endpoints = await openEndpoints();
      await takingOver.takeCharge();
      await endpoints.retry();
      log.info({ from: takingOver.from }, 'this agent took over from the one that ran');
    }
    agentSocket = await openSocket();
    view.agentSocket = agentSocket;
    onSockets?.();
  } catch (error) {
    if (takingOver.from !== null) log.error({ problem: describeError(error) }, 'this agent cannot take over, and ends');
    // It may have accepted connections already, which would have been the running agent's.
    const graceMs = takingOver.from === null ? 0 : settings.drainTimeoutMs;
    await stop({ graceMs, removesCapture: false, ...(stopping === undefined ? {} : { atOnce: stopping }) });
    throw error;
  }
  return {
    ports: endpoints?.ports ?? { admin: 0, metrics: 0, health: 0 },
    readiness: () => view.readiness(),
    isServing: () => view.isServing(),
    joined,
    succeeded,
    moved: rejoining.moved,
    isUninstalled: async () => {
      const { plane } = view;
      const sinceMs = performance.now();
      await (await plane?.startedLink().catch(() => null))?.readNotices();
      return plane?.rulesAge.isUninstalled(sinceMs) ?? false;
    },
    recheckCapture: async () => {
      for (const { name } of capture.status()) await capture.check(name);
      await capture.checkHost();
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop({ graceMs: 0, removesCapture: false });
    },
  };
}

/** Lets connections finish until the grace period ends or `atOnce` aborts. */
async function drainPool(
  pool: WorkerPool | null,
  { graceMs, atOnce, isServing = false }: StopOptions,
): Promise<Stopped> {
  if (pool === null) return { hasThreadsLeft: false };
  const impatient = new Promise<Stopped>((resolve) => {
    const finish = (): void => resolve({ hasThreadsLeft: true });
    if (atOnce?.aborted === true) finish();
    atOnce?.addEventListener('abort', finish, { once: true });
  });
  const drained = pool.drain(graceMs, { isServing }).then(({ stuckThreads }) => ({ hasThreadsLeft: stuckThreads > 0 }));
  return await Promise.race([drained, impatient]);
}
