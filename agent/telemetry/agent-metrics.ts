import { Counter, Histogram, type Registry } from 'prom-client';
import { formatRuleRef } from '../../shared/policy/connection.js';
import { reasonInfo } from '../../shared/reasons.js';
import type { WorkerReport } from '../dataplane/messages.js';
import { CappedCounter } from './capped-counter.js';
import type { ClosedConnection } from '../dataplane/report/closed-connection.js';
import type { LiveBytes } from '../dataplane/report/open-connections.js';
import { WorkerGaugeBoard } from './worker-gauge-board.js';
import type { WorkloadName } from '../../shared/routing/names.js';

/** Seconds, from 100 µs (same host) to the connect timeout. */
const latencyBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
/** Seconds, from a health check to a connection that lives for a day. */
const durationBuckets = [0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 86_400];

const connectionLabels = ['direction', 'path', 'reason', 'source_workload', 'destination_workload'] as const;
const workloadLabels = ['direction', 'source_workload', 'destination_workload'] as const;
const denialLabels = ['direction', 'reason', 'rule', 'source_workload', 'destination_workload'] as const;
const routeLabels = ['route', 'subset', 'reason'] as const;
const openLabels = ['source_workload', 'destination_workload'] as const;
/** Label value of a route that leads to all endpoints of the service. */
const noSubset = 'none';
/** Label value for an address that belongs to no workload. */
const unknownWorkload = 'unknown';

/**
 * Counts what connections did, from the workers' reports only. Labels are closed sets, names of rules, or names of
 * workloads (capped); never addresses or ports.
 */
export class AgentMetrics {
  readonly #closed: CappedCounter<(typeof connectionLabels)[number]>;
  readonly #denied: CappedCounter<(typeof denialLabels)[number]>;
  readonly #sent: CappedCounter<(typeof workloadLabels)[number]>;
  readonly #received: CappedCounter<(typeof workloadLabels)[number]>;
  readonly #audited: CappedCounter<'rule'>;
  readonly #routed: CappedCounter<(typeof routeLabels)[number]>;
  readonly #circuits: CappedCounter<'service'>;
  readonly #limited: CappedCounter<'limit' | 'bound' | 'mode'>;
  readonly #faulted: CappedCounter<'route' | 'fault'>;
  readonly #mirrored: CappedCounter<'route' | 'reason'>;
  readonly #ejections: CappedCounter<'destination' | 'rule' | 'reason'>;
  readonly #opened: Counter;
  readonly #lost: Counter;
  readonly #connect: Histogram<'direction' | 'path'>;
  readonly #firstByte: Histogram<'direction' | 'path'>;
  readonly #duration: Histogram<'direction' | 'path'>;
  readonly #captureRepairs: Counter<'workload'>;
  readonly #rulesAlarms: Counter<'kind'>;
  readonly #registryAlarms: Counter;
  readonly #answerAlarms: Counter<'kind'>;
  readonly #stateWriteFailures: Counter;
  readonly #workerRestarts: Counter;
  readonly #board: WorkerGaugeBoard;

  constructor(init: {
    readonly registry: Registry;
    readonly maxSeries: number;
    readonly idleTimeoutMs: number;
    readonly now: () => number;
  }) {
    const { registry } = init;
    const capped = { ...init, openLabels };
    this.#closed = new CappedCounter({
      ...capped,
      name: 'culvert_connections_closed_total',
      help: 'Closed connections, by reason.',
      labelNames: connectionLabels,
    });
    this.#denied = new CappedCounter({
      ...capped,
      name: 'culvert_connections_denied_total',
      help: 'Connections refused or cut because of a rule, a limit or an identity, by reason and rule.',
      labelNames: denialLabels,
      openLabels: ['rule', ...openLabels],
    });
    this.#sent = new CappedCounter({
      ...capped,
      name: 'culvert_connection_sent_bytes_total',
      help: 'Application bytes from source to destination; updated while connections are open.',
      labelNames: workloadLabels,
    });
    this.#received = new CappedCounter({
      ...capped,
      name: 'culvert_connection_received_bytes_total',
      help: 'Application bytes from destination to source; updated while connections are open.',
      labelNames: workloadLabels,
    });
    this.#audited = new CappedCounter({
      ...capped,
      name: 'culvert_connections_audited_total',
      help: 'Connections that a rule in audit mode would have denied.',
      labelNames: ['rule'],
      openLabels: ['rule'],
    });
    this.#routed = new CappedCounter({
      ...capped,
      name: 'culvert_connections_routed_total',
      help: 'Closed connections that a route of a VirtualService or a TCPRoute led, by route, the subset or the backend that was drawn (none: all endpoints) and reason.',
      labelNames: routeLabels,
      openLabels: ['route', 'subset'],
    });
    this.#circuits = new CappedCounter({
      ...capped,
      name: 'culvert_connections_circuit_open_total',
      help: 'Connections refused because their service has as many as a DestinationRule allows, or none of its endpoints is left.',
      labelNames: ['service'],
      openLabels: ['service'],
    });
    this.#limited = new CappedCounter({
      ...capped,
      name: 'culvert_connections_rate_limited_total',
      help: 'Connections that a RateLimit refused or slowed down (mode enforce), or would have (mode audit), by RateLimit and its field that was used up.',
      labelNames: ['limit', 'bound', 'mode'],
      openLabels: ['limit'],
    });
    this.#faulted = new CappedCounter({
      ...capped,
      name: 'culvert_connections_faulted_total',
      help: 'Connections that a VirtualService had delayed, aborted or throttled on purpose, by route and fault.',
      labelNames: ['route', 'fault'],
      openLabels: ['route'],
    });
    this.#mirrored = new CappedCounter({
      ...capped,
      name: 'culvert_connections_mirrored_total',
      help: 'Copies of connections (mirror of a VirtualService) that ended, by route and reason. They are in no other figure of ended connections.',
      labelNames: ['route', 'reason'],
      openLabels: ['route'],
    });
    this.#ejections = new CappedCounter({
      ...capped,
      name: 'culvert_endpoint_ejections_total',
      help: 'How often a thread ejected an endpoint that failed (outlierDetection), by destination, DestinationRule and the reason of the last failure.',
      labelNames: ['destination', 'rule', 'reason'],
      openLabels: ['destination', 'rule'],
    });
    const registers = [registry];
    this.#opened = new Counter({
      name: 'culvert_connections_opened_total',
      help: 'Connections accepted from applications and other agents.',
      registers,
    });
    this.#lost = new Counter({
      name: 'culvert_connections_lost_total',
      help: 'Connections lost because a data-plane worker died.',
      registers,
    });
    const pathLabels = ['direction', 'path'] as const;
    this.#connect = new Histogram({
      name: 'culvert_connect_duration_seconds',
      help: 'Time from accept until the destination was connected.',
      labelNames: pathLabels,
      buckets: latencyBuckets,
      registers,
    });
    this.#firstByte = new Histogram({
      name: 'culvert_first_byte_duration_seconds',
      help: 'Time from accept until the first byte from the destination.',
      labelNames: pathLabels,
      buckets: latencyBuckets,
      registers,
    });
    this.#duration = new Histogram({
      name: 'culvert_connection_duration_seconds',
      help: 'Duration of connections.',
      labelNames: pathLabels,
      buckets: durationBuckets,
      registers,
    });
    this.#captureRepairs = new Counter({
      name: 'culvert_capture_repairs_total',
      help: 'How often capture rules that were changed from outside were repaired.',
      labelNames: ['workload'],
      registers,
    });
    this.#rulesAlarms = new Counter({
      name: 'culvert_rules_alarms_total',
      help: 'Rules that were refused: backwards (an older revision) or unusable (damaged, or not signed by a pinned key); or that may be old (the controller has not confirmed them).',
      labelNames: ['kind'],
      registers,
    });
    this.#registryAlarms = new Counter({
      name: 'culvert_registry_alarms_total',
      help: 'Refused registry entries: not signed by a pinned key, damaged, or older than the current one.',
      registers,
    });
    this.#answerAlarms = new Counter({
      name: 'culvert_control_answer_alarms_total',
      help: 'Refused answers with certificates: unsigned (no pinned key signed it for this request) or unfit (not what was requested).',
      labelNames: ['kind'],
      registers,
    });
    this.#stateWriteFailures = new Counter({
      name: 'culvert_state_write_failures_total',
      help: 'How often the last good state could not be written to disk.',
      registers,
    });
    this.#workerRestarts = new Counter({
      name: 'culvert_worker_restarts_total',
      help: 'Data-plane workers that died and were replaced.',
      registers,
    });
    for (const kind of ['backwards', 'unusable', 'old']) this.#rulesAlarms.inc({ kind }, 0);
    for (const kind of ['unsigned', 'unfit']) this.#answerAlarms.inc({ kind }, 0);
    this.#board = new WorkerGaugeBoard({ registry });
  }

  report(report: WorkerReport, workerIndex: number): void {
    for (const connection of report.closed) this.#closedOne(connection);
    for (const live of report.live) this.#moved(live);
    for (const { destination, rule, reason } of report.ejections ?? [])
      this.#ejections.add({ destination, rule, reason }, 1);
    const opened = this.#board.take(workerIndex, report.gauges) + report.closed.length;
    if (opened > 0) this.#opened.inc(opened);
  }

  workerLost(workerIndex: number): void {
    this.#workerRestarts.inc();
    this.#lost.inc(this.#board.drop(workerIndex));
  }

  captureRepaired(workload: string): void {
    this.#captureRepairs.inc({ workload });
  }

  /** Drops the series of a workload that left the node. */
  workloadGone(workload: WorkloadName): void {
    this.#captureRepairs.remove({ workload });
  }

  rulesAlarm(kind: 'backwards' | 'unusable' | 'old'): void {
    this.#rulesAlarms.inc({ kind });
  }

  registryAlarm(): void {
    this.#registryAlarms.inc();
  }

  answerRefused(kind: 'unsigned' | 'unfit'): void {
    this.#answerAlarms.inc({ kind });
  }

  stateWriteFailed(): void {
    this.#stateWriteFailures.inc();
  }

  get openConnections(): number {
    return this.#board.openConnections;
  }

  #closedOne(connection: ClosedConnection): void {
    const { direction, path, reason } = connection;
    if (connection.mirrorOf !== undefined) {
      // What becomes of a shadow says nothing of how clients are served.
      this.#mirrored.add({ route: connection.route?.route ?? 'none', reason }, 1);
      return;
    }
    const source_workload = connection.source.workload ?? unknownWorkload;
    const destination_workload = connection.destination.workload ?? unknownWorkload;
    this.#closed.add({ direction, path, reason, source_workload, destination_workload }, 1);
    if (isDenial(connection)) {
      const rule = connection.rule === null ? 'none' : formatRuleRef(connection.rule);
      this.#denied.add({ direction, reason, rule, source_workload, destination_workload }, 1);
    }
    for (const rule of connection.audited) this.#audited.add({ rule: formatRuleRef(rule) }, 1);
    if (connection.route !== undefined) {
      const { route, subset } = connection.route;
      this.#routed.add({ route, subset: subset ?? noSubset, reason }, 1);
      for (const fault of connection.faults ?? []) this.#faulted.add({ route, fault }, 1);
    }
    for (const { limit, bound, mode } of connection.limited ?? []) this.#limited.add({ limit, bound, mode }, 1);
    if (reason === 'CIRCUIT_OPEN' && connection.service !== null)
      this.#circuits.add({ service: connection.service }, 1);
    if (connection.connectMs !== null) this.#connect.observe({ direction, path }, connection.connectMs / 1000);
    if (connection.firstByteMs !== null) this.#firstByte.observe({ direction, path }, connection.firstByteMs / 1000);
    this.#duration.observe({ direction, path }, connection.durationMs / 1000);
  }

  /**
   * When a connection closes, the worker also reports here what it moved since its last report, so each byte counts
   * once.
   */
  #moved(live: LiveBytes): void {
    const labels = {
      direction: live.direction,
      source_workload: live.sourceWorkload ?? unknownWorkload,
      destination_workload: live.destinationWorkload ?? unknownWorkload,
    };
    if (live.sent > 0) this.#sent.add(labels, live.sent);
    if (live.received > 0) this.#received.add(labels, live.received);
  }
}

/** Refused or cut on purpose: by a rule or limit, or because an identity was not proved. */
function isDenial(connection: ClosedConnection): boolean {
  const { side, status } = reasonInfo(connection.reason);
  return side === 'policy' ? status !== 503 : status === 401;
}
