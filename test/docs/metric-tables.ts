import { Registry } from 'prom-client';
import { EndpointMetrics } from '../../agent/admin/endpoint-metrics.js';
import { AgentMetrics } from '../../agent/telemetry/agent-metrics.js';
import { FlowMetrics } from '../../agent/telemetry/flows/flow-metrics.js';
import { registerHostGauges } from '../../agent/telemetry/host-gauges.js';
import { NamespaceProbe } from '../../agent/telemetry/namespace-probe.js';
import { registerStateGauges } from '../../agent/telemetry/state-gauges.js';
import { ControllerMetrics } from '../../controller/api/controller-metrics.js';
import { createLog } from '../../shared/log.js';
import { nodeNamed } from '../support/routing/names.js';

export type MetricDescription = {
  readonly name: string;
  /** `counter`, `gauge` or `histogram`. */
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
};

/** The metrics of an agent, by name: registered as `agent/app.ts` does, and never scraped. */
export function agentMetrics(): MetricDescription[] {
  const registry = new Registry();
  void new AgentMetrics({ registry, maxSeries: 1, idleTimeoutMs: 1, now: Date.now });
  void new FlowMetrics({ registry });
  void new NamespaceProbe({ registry, targets: () => [], log: createLog({ name: 'docs', level: 'error' }) });
  registerStateGauges(registry, {
    version: '',
    node: nodeNamed(''),
    appliedRevision: () => null,
    enforcedRevision: () => null,
    rulesAgeMs: () => null,
    isNatsConnected: () => false,
    registryEntries: () => ({ workloads: 0, services: 0 }),
    certificates: () => [],
    nodeCertificateNotAfterMs: () => null,
    workloads: () => ({ captured: 0, pending: 0, unheard: 0 }),
    workers: () => ({ online: 0, wanted: 0 }),
    maxConnectionsPerWorkload: 0,
    maxWaitingBytesPerWorkload: 0,
  });
  registerHostGauges(registry).dispose();
  void new EndpointMetrics({ registry });
  return described(registry);
}

/** Those of the controller that are its own; `process_*` and `nodejs_*` are the client library's. */
export function controllerMetrics(): MetricDescription[] {
  const readGauges = (): never => {
    throw new Error('they are not scraped here');
  };
  return described(new ControllerMetrics({ readGauges }).registry);
}

function described(registry: Registry): MetricDescription[] {
  return registry
    .getMetricsAsArray()
    .map((metric) => {
      // The names of its labels are on every metric, and not in the type definitions.
      const { labelNames } = metric as unknown as { readonly labelNames: readonly string[] };
      return { name: metric.name, type: typeOf(metric), labels: labelNames, help: metric.help };
    })
    .filter(({ name }) => name.startsWith('culvert_'))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function typeOf(metric: object): string {
  return metric.constructor.name.toLowerCase();
}
