import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import type { Log } from '../shared/log.js';
import { version } from '../shared/version.js';
import { openAgentEndpoints, type AgentEndpoints } from './admin/agent-endpoints.js';
import { AgentView } from './admin/agent-view.js';
import type { ReadinessReport } from './admin/readiness.js';
import { WorkloadCapture } from './capture/workload-capture.js';
import type { AgentSettings } from './config/agent-settings.js';
import { dataplaneSettings } from './config/dataplane-settings-table.js';
import { parseListenAddress } from '../shared/config/listen-address.js';
import { captureControl } from './control/workloads/capture-control.js';
import { CaptureLedger } from './control/workloads/capture-ledger.js';
import { ControlPlane } from './control/control-plane.js';
import { FlowPublisher } from './telemetry/flows/flow-publisher.js';
import { obtainCredentials } from './control/join/membership.js';
import { resolveNodeName } from './control/join/node-name.js';
import { StateDirectory } from './control/state/state-directory.js';
import { WorkerPool } from './dataplane/pool/worker-pool.js';
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

export type AgentOptions = {
  readonly settings: AgentSettings;
  readonly log: Log;
  /** What `/config` of the admin endpoint shows: the effective settings and their sources, without secrets. */
  readonly shownConfiguration: unknown;
  /** Called once, when every workload whose namespace exists is captured and served. */
  readonly onServing?: () => void;
};

export type StopOptions = {
  /** How long open connections may continue. */
  readonly graceMs: number;
  /** Removes the capture rules first. Otherwise they stay, and new connections are refused. */
  readonly removesCapture: boolean;
  /** Ends the grace period early. */
  readonly atOnce?: AbortSignal;
};

export type Stopped = {
  /** Data-plane threads are left that cannot be ended, or were not waited for. `process.exit()` may wait for them for ever. */
  readonly hasThreadsLeft: boolean;
};

export type RunningAgent = AsyncDisposable & {
  readonly ports: AgentEndpoints['ports'];
  readonly readiness: () => ReadinessReport;
  /** Resolves when the host has joined and serves (at once if it had joined before); rejects if it never can. */
  readonly joined: Promise<void>;
  /** Checks the capture rules of every workload and of the host now, because the supervisor may have removed some. */
  recheckCapture(): Promise<void>;
  /** Stops cleanly, `graceMs` and some seconds later at the latest. Safe to call twice. */
  stop(options: StopOptions): Promise<Stopped>;
};

/**
 * Starts one agent in this process: the endpoints first, so that /readyz reports what is missing from the first moment;
 * then the join; then data plane, capture and control. Throws CulvertError if a setting or an address cannot be used.
 * Disposing stops the agent at once and leaves the capture in place (fail closed).
 */
export async function startAgent({
  settings,
  log,
  shownConfiguration,
  onServing,
}: AgentOptions): Promise<RunningAgent> {
  const node = resolveNodeName(settings.node);
  const addresses = {
    admin: parseListenAddress(settings.adminAddress, '--admin-address'),
    metrics: parseListenAddress(settings.metricsAddress, '--metrics-address'),
    health: parseListenAddress(settings.healthAddress, '--health-address'),
  };
  const startedAtMs = Date.now();
  const abort = new AbortController();
  const workers = settings.workers ?? Math.min(4, availableParallelism());
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
  });
  const { maxConnectionsPerWorkload, maxWaitingBytesPerWorkload } = settings;
  const view = new AgentView({
    node,
    version,
    startedAtMs,
    workersWanted: workers,
    maxConnectionsPerWorkload,
    maxWaitingBytesPerWorkload,
    capture,
  });
  registerStateGauges(registry, view.observed());
  const probe = new NamespaceProbe({ registry, log, targets: () => view.namespaces() });
  const endpoints = await openAgentEndpoints({
    addresses,
    log,
    sources: {
      registry,
      readiness: () => view.readiness(),
      isAlive: () => view.isAlive(),
      configuration: () => shownConfiguration,
      state: () => view.dump(),
      workers: async () => (await view.pool?.dump()) ?? [],
    },
  });
  const hostGauges = registerHostGauges(registry);
  // Nothing on this thread is urgent enough to be hurt by a pause.
  const heapTrimmer = new IdleHeapTrimmer({ mayPause: () => true });

  const bringUp = async (): Promise<void> => {
    const credentials = await obtainCredentials({
      settings: { ...settings, node },
      directory,
      version,
      log,
      signal: abort.signal,
      onProblem: (problem) => (view.joinProblem = problem),
    });
    const state = await directory.readState(log);
    const { namespaces } = await directory.readCaptured(log);
    const { trustDomain } = credentials;
    const pool = new WorkerPool({ workers, node, trustDomain, settings: dataplaneSettings(settings), log });
    view.pool = pool;
    const flows = new FlowPublisher({
      aggregator: new FlowAggregator({
        nameExternal: externalNames(() => view.plane?.snapshot?.externals ?? []),
      }),
      store: async (bytes) => await view.startedPlane.storeFlows(bytes),
      sendRecent: async (bytes) => await view.startedPlane.reportRecentFlows(bytes),
      tally: new FlowTally({ path: join(settings.stateDir, 'flows.tally'), log }),
      metrics: new FlowMetrics({ registry }),
      log,
      nowMs: Date.now,
    });
    view.flows = flows;
    pool.on('report', (report, workerIndex) => {
      flows.report(report, workerIndex);
      metrics.report(report, workerIndex);
      for (const connection of report.closed) accessLog.write(connection);
    });
    pool.on('workerLost', (workerIndex) => metrics.workerLost(workerIndex));
    const plane = new ControlPlane({
      settings,
      node,
      version,
      startedAtMs,
      credentials,
      directory,
      ledger: new CaptureLedger({ file: directory.captured, entries: namespaces, log }),
      pool,
      capture: captureControl(capture),
      ownInode: ownNetnsInode(),
      metrics,
      log,
      pending: () => view.readiness().pending.map((task) => task.name),
      onWorkloads: view.announceServing(onServing),
    });
    await pool.start();
    if (abort.signal.aborted) return;
    view.plane = plane;
    plane.start(state);
    probe.start();
  };
  const joined = bringUp();
  // Callers may await it and get the failure, but they need not.
  joined.catch(() => undefined);

  const stopNow = async ({ graceMs, removesCapture, atOnce }: StopOptions): Promise<Stopped> => {
    abort.abort();
    await joined.catch(() => undefined);
    probe.close();
    await view.plane?.stop({ removesCapture });
    // No new connection arrives by now. What the open ones need is stopped after they have ended.
    const stopped = await drainPool(view.pool, graceMs, atOnce);
    await view.flows?.close();
    await view.plane?.disconnect();
    if (removesCapture) await capture.releaseAll();
    await capture.close();
    hostGauges.dispose();
    heapTrimmer.stop();
    await endpoints[Symbol.asyncDispose]();
    return stopped;
  };
  let stopping: Promise<Stopped> | null = null;
  const stop = (options: StopOptions): Promise<Stopped> => (stopping ??= stopNow(options));
  return {
    ports: endpoints.ports,
    readiness: () => view.readiness(),
    joined,
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
async function drainPool(pool: WorkerPool | null, graceMs: number, atOnce: AbortSignal | undefined): Promise<Stopped> {
  if (pool === null) return { hasThreadsLeft: false };
  const impatient = new Promise<Stopped>((resolve) => {
    const finish = (): void => resolve({ hasThreadsLeft: true });
    if (atOnce?.aborted === true) finish();
    atOnce?.addEventListener('abort', finish, { once: true });
  });
  const drained = pool.drain(graceMs).then(({ stuckThreads }) => ({ hasThreadsLeft: stuckThreads > 0 }));
  return await Promise.race([drained, impatient]);
}
