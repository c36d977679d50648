import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { connectionCuts, type ConnectionCut } from '../../shared/http/bounded-server.js';
import { version } from '../../shared/version.js';
import type { IssuerStatus } from '../ca/certificate-issuer.js';
import { issuerOutcomes, type IssuerOutcome } from '../ca/issuer/guarded-issuer.js';
import { agentStates, type AgentStatus } from '../fleet/agent-registry.js';
import type { FlowBatchOutcome } from '../flows/flow-history.js';
import type { AnsweredRequest } from './api-server.js';
import type { ChangeResult } from './change-answer.js';

/** Values of the gauges, read at each scrape. */
export type ControllerGauges = {
  readonly revision: number;
  readonly isSettled: boolean;
  readonly isNatsConnected: boolean;
  readonly natsRestarts: number;
  readonly agents: readonly AgentStatus[];
  /** By kind. */
  readonly resources: ReadonlyMap<string, number>;
  /** Flow entries in memory: flows times hours. */
  readonly flowEntries: number;
  readonly usableTokens: number;
  readonly auditLog: { readonly isWritable: boolean; readonly lost: number };
  readonly issuingCaNotAfterMs: number;
  /** Null: the controller signs by itself. */
  readonly issuer: IssuerStatus | null;
};

/** The controller's metrics, in their own registry. Labels are closed sets: no label holds a node or a name. */
export class ControllerMetrics {
  readonly #registry = new Registry();
  readonly #requests = this.#counter('requests_total', 'API requests answered.', ['method', 'route', 'status']);
  readonly #requestSeconds = new Histogram({
    name: 'culvert_controller_request_duration_seconds',
    help: 'Time from a request until its answer was written.',
    labelNames: ['route'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    registers: [this.#registry],
  });
  readonly #changes = this.#counter('changes_total', 'Applies, deletes and rollbacks, by outcome.', ['outcome']);
  readonly #joins = this.#counter('joins_total', 'Joins that were accepted.', []);
  readonly #refusedJoins = this.#counter('refused_joins_total', 'Joins that were refused.', ['reason']);
  readonly #signed = this.#counter('certificates_signed_total', 'Workload certificates that were signed.', []);
  readonly #refusedCertificates = this.#counter(
    'refused_certificates_total',
    'Workload certificates that were refused.',
    ['reason'],
  );
  readonly #issuerRequests = this.#counter(
    'issuer_requests_total',
    'Certificates that an issuer elsewhere was asked for, by outcome: signed, or the code of the error.',
    ['outcome'],
  );
  readonly #issuerSeconds = new Histogram({
    name: 'culvert_controller_issuer_request_duration_seconds',
    help: 'Time that an issuer elsewhere took for a certificate, or to refuse it.',
    buckets: [0.01, 0.05, 0.2, 1, 2, 5, 10],
    registers: [this.#registry],
  });
  readonly #renewed = this.#counter('nodes_renewed_total', 'Node certificates that were renewed.', []);
  readonly #badRequests = this.#counter('bad_agent_requests_total', 'Messages from agents that were refused.', [
    'verb',
  ]);
  readonly #natsRefused = this.#counter(
    'nats_refused_total',
    'Connections, publications and subscriptions that the embedded nats-server refused.',
    ['operation'],
  );
  readonly #flowBatches = this.#counter(
    'flow_batches_total',
    'Batches of flow records that were read, by outcome. After a restart the stored batches count again.',
    ['outcome'],
  );
  readonly #unauthorized = this.#counter('unauthorized_total', 'API requests without a valid credential.', []);
  readonly #cuts = this.#counter(
    'connections_cut_total',
    'Connections to the API that a limit ended: too many from one source or in all, or a client that was too slow.',
    ['why'],
  );
  readonly #readGauges: () => ControllerGauges;

  constructor(init: { readonly readGauges: () => ControllerGauges }) {
    this.#readGauges = init.readGauges;
    collectDefaultMetrics({ register: this.#registry });
    for (const why of connectionCuts) this.#cuts.inc({ why }, 0);
    for (const outcome of issuerOutcomes) this.#issuerRequests.inc({ outcome }, 0);
    this.#registerGauges();
  }

  /** For the documentation of metrics. */
  get registry(): Registry {
    return this.#registry;
  }

  answered({ method, route, status, durationMs }: AnsweredRequest): void {
    this.#requests.inc({ method: knownMethods.has(method) ? method : 'other', route, status: String(status) });
    this.#requestSeconds.observe({ route }, durationMs / 1000);
    if (status === 401 && route !== '/v1/join') this.#unauthorized.inc();
  }

  connectionCut(why: ConnectionCut): void {
    this.#cuts.inc({ why });
  }

  changed(outcome: ChangeResult): void {
    this.#changes.inc({ outcome });
  }

  joined(): void {
    this.#joins.inc();
  }

  joinRefused(reason: string): void {
    this.#refusedJoins.inc({ reason });
  }

  certificateSigned(): void {
    this.#signed.inc();
  }

  certificateRefused(reason: string): void {
    this.#refusedCertificates.inc({ reason });
  }

  issuerAsked(outcome: IssuerOutcome, durationMs: number): void {
    this.#issuerRequests.inc({ outcome });
    this.#issuerSeconds.observe(durationMs / 1000);
  }

  nodeRenewed(): void {
    this.#renewed.inc();
  }

  badAgentRequest(verb: string): void {
    this.#badRequests.inc({ verb });
  }

  flowBatch(outcome: FlowBatchOutcome): void {
    this.#flowBatches.inc({ outcome });
  }

  natsRefused(operation: string): void {
    this.#natsRefused.inc({ operation });
  }

  /** The text of `/metrics`, and its content type. */
  async render(): Promise<{ text: string; contentType: string }> {
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType };
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `culvert_controller_${name}`, help, labelNames, registers: [this.#registry] });
  }

  #registerGauges(): void {
    this.#countElsewhere(
      'nats_restarts_total',
      'Restarts of the embedded nats-server after it died.',
      (gauges) => gauges.natsRestarts,
    );
    this.#gauge('standing_by', '1 while it stands by for another.', () => 0);
    this.#gauge('revision', 'The revision in force.', ({ revision }) => revision);
    this.#gauge('store_settled', '1 when NATS holds the revision in force.', ({ isSettled }) => Number(isSettled));
    this.#gauge('nats_connected', '1 when connected to NATS.', ({ isNatsConnected }) => Number(isNatsConnected));
    this.#gauge('flow_entries', 'Flow entries in memory: flows times hours.', ({ flowEntries }) => flowEntries);
    this.#gauge('usable_tokens', 'Join tokens that are neither used nor expired.', ({ usableTokens }) => usableTokens);
    this.#gauge(
      'audit_log_writable',
      '1 when the last line of the audit log could be written; 0: no privileged request is done.',
      ({ auditLog }) => Number(auditLog.isWritable),
    );
    this.#countElsewhere(
      'audit_lines_lost_total',
      'Lines that could not be written into the audit log.',
      ({ auditLog }) => auditLog.lost,
    );
    this.#gauge(
      'issuing_ca_expiry_timestamp_seconds',
      'When the CA that signs certificates expires.',
      ({ issuingCaNotAfterMs }) => issuingCaNotAfterMs / 1000,
    );
    this.#gauge(
      'issuer_up',
      '0 when an issuer elsewhere has a problem, so that certificates may run out; else 1.',
      ({ issuer }) => Number(issuer?.problem == null),
    );
    this.#gauge(
      'issuer_waiting',
      'Requests that an issuer elsewhere has not answered yet.',
      ({ issuer }) => issuer?.waiting ?? 0,
    );
    this.#gauge(
      'agents_clock_wrong',
      'Agents whose clock differs too much from the controller.',
      ({ agents }) => agents.filter((agent) => agent.isClockWrong).length,
    );
    this.#gaugeBy('agents', 'Agents by state.', 'state', ({ agents }) =>
      agentStates.map((state) => [state, agents.filter((agent) => agent.state === state).length]),
    );
    this.#gaugeBy('resources', 'Documents by kind.', 'kind', ({ resources }) => [...resources]);
    this.#gaugeBy('build_info', 'Always 1; the version of this controller.', 'version', () => [[version, 1]]);
  }

  /** Exposes a count that another class keeps. */
  #countElsewhere(name: string, help: string, read: (gauges: ControllerGauges) => number): void {
    const readGauges = this.#readGauges;
    const counter = new Counter({
      name: `culvert_controller_${name}`,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(read(readGauges()));
      },
    });
    this.#registry.registerMetric(counter);
  }

  #gauge(name: string, help: string, read: (gauges: ControllerGauges) => number): void {
    const readGauges = this.#readGauges;
    const gauge = new Gauge({
      name: `culvert_controller_${name}`,
      help,
      registers: [],
      collect() {
        this.set(read(readGauges()));
      },
    });
    this.#registry.registerMetric(gauge);
  }

  #gaugeBy(
    name: string,
    help: string,
    label: string,
    read: (gauges: ControllerGauges) => readonly (readonly [string, number])[],
  ): void {
    const readGauges = this.#readGauges;
    const gauge = new Gauge({
      name: `culvert_controller_${name}`,
      help,
      labelNames: [label],
      registers: [],
      collect() {
        this.reset();
        for (const [value, count] of read(readGauges())) this.set({ [label]: value }, count);
      },
    });
    this.#registry.registerMetric(gauge);
  }
}

const knownMethods = new Set(['GET', 'POST', 'DELETE', 'PUT', 'HEAD', 'OPTIONS', 'PATCH']);
