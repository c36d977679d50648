import { completeHost } from '../../shared/routing/service-hosts.js';
import type {
  Balancing,
  CompiledDestinationRule,
  ConnectionLimits,
  KeepalivePolicy,
  OutlierPolicy,
  RetryBudgetPolicy,
  TrafficPolicy,
} from '../../shared/policy/traffic-documents.js';
import type { DestinationRule } from '../resources/kinds/destination-rule.js';
import { takenDurationMs } from '../resources/kinds/duration-field.js';
import type { OutlierDetection } from '../resources/kinds/outlier-detection.js';
import { byNamespaceAndName } from './compile-authorization.js';

type Policy = Pick<
  NonNullable<DestinationRule['spec']['trafficPolicy']>,
  'loadBalancer' | 'connectionPool' | 'outlierDetection' | 'retryBudget'
>;

/** Compiles DestinationRules, sorted by namespace and name. */
export function compileDestinationRules(rules: readonly DestinationRule[]): CompiledDestinationRule[] {
  return rules.map(compileRule).sort(byNamespaceAndName);
}

/** Compiled rules by document, so that unchanged ones stay the same objects. */
const compiled = new WeakMap<DestinationRule, CompiledDestinationRule>();

function compileRule(rule: DestinationRule): CompiledDestinationRule {
  const known = compiled.get(rule) ?? compileUncached(rule);
  compiled.set(rule, known);
  return known;
}

function compileUncached({ metadata, spec }: DestinationRule): CompiledDestinationRule {
  const { namespace, name } = metadata;
  const { trafficPolicy = {} } = spec;
  return {
    namespace,
    name,
    host: hostOf(spec.host, namespace),
    ...exportOf(spec.exportTo ?? [], namespace),
    policy: policyOf(trafficPolicy),
    ports: portsOf(trafficPolicy),
    ...subsetsOf(spec.subsets ?? []),
  };
}

/** The whole name or the wildcard that a document means. */
export function hostOf(written: string, namespace: string): string {
  const host = completeHost(written, namespace);
  if (host === undefined) throw new Error(`the schema takes no host ${written}`);
  return host;
}

/** Without any namespace, or with all, a rule has no such field. */
export function exportOf(exportTo: readonly string[], own: string): Pick<CompiledDestinationRule, 'exportTo'> {
  if (exportTo.length === 0 || exportTo.includes('*')) return {};
  return { exportTo: [...new Set(exportTo.map((written) => (written === '.' ? own : written)))].sort() };
}

/** Without any, a rule has no such field. */
function subsetsOf(subsets: NonNullable<DestinationRule['spec']['subsets']>): Pick<CompiledDestinationRule, 'subsets'> {
  if (subsets.length === 0) return {};
  return {
    subsets: subsets.map(({ name, labels, trafficPolicy = {} }) => ({
      name,
      labels,
      policy: policyOf(trafficPolicy),
      ports: portsOf(trafficPolicy),
    })),
  };
}

function portsOf({
  portLevelSettings = [],
}: NonNullable<DestinationRule['spec']['trafficPolicy']>): Record<string, TrafficPolicy> {
  return Object.fromEntries(portLevelSettings.map(({ port, ...policy }) => [String(port.number), policyOf(policy)]));
}

const balancingOf = {
  UNSPECIFIED: null,
  ROUND_ROBIN: 'round-robin',
  RANDOM: 'random',
  LEAST_REQUEST: 'least-connections',
  LEAST_CONN: 'least-connections',
} as const satisfies Record<string, Balancing | null>;

/** Without anything to say, a policy has no field for it. */
function policyOf({ loadBalancer, connectionPool, outlierDetection, retryBudget }: Policy): TrafficPolicy {
  const balancing =
    loadBalancer?.consistentHash === undefined
      ? balancingOf[loadBalancer?.simple ?? 'UNSPECIFIED']
      : ('source-ip' as const);
  const connections = limitsOf(connectionPool?.tcp ?? {});
  const outliers = outlierDetection === undefined ? null : outliersOf(outlierDetection);
  return {
    ...(balancing === null ? {} : { balancing }),
    ...warmupOf(loadBalancer ?? {}),
    ...(Object.keys(connections).length === 0 ? {} : { connections }),
    ...(outliers === null ? {} : { outliers }),
    ...(retryBudget === undefined ? {} : { retries: budgetOf(retryBudget) }),
  };
}

/** Values that are absent are those of Istio. Without a duration, a policy has no field for it. */
function warmupOf({ warmup, warmupDurationSecs }: NonNullable<Policy['loadBalancer']>): Pick<TrafficPolicy, 'warmup'> {
  const duration = warmup?.duration ?? warmupDurationSecs;
  if (duration === undefined) return {};
  const { minimumPercent = 10, aggression = 1 } = warmup ?? {};
  return { warmup: { durationMs: takenDurationMs(duration), minPercent: minimumPercent, aggression } };
}

/** Values that are absent are those of Istio. */
function budgetOf({ percent = 20, minRetryConcurrency = 3 }: NonNullable<Policy['retryBudget']>): RetryBudgetPolicy {
  return { percent, minConcurrency: minRetryConcurrency };
}

/** Null: no number of failures ejects. Values that are absent are those of Istio. */
function outliersOf(detection: OutlierDetection): OutlierPolicy | null {
  const { consecutive5xxErrors = 5, consecutiveGatewayErrors = 0, consecutiveLocalOriginFailures = 5 } = detection;
  const counted =
    detection.splitExternalLocalOriginErrors === true
      ? [consecutiveLocalOriginFailures]
      : [consecutive5xxErrors, consecutiveGatewayErrors];
  const failures = Math.min(...counted.filter((count) => count > 0));
  if (!Number.isFinite(failures)) return null;
  return {
    failures,
    baseEjectionMs: takenDurationMs(detection.baseEjectionTime ?? '30s'),
    decayMs: takenDurationMs(detection.interval ?? '10s'),
    maxEjectionPercent: detection.maxEjectionPercent ?? 10,
    minHealthPercent: detection.minHealthPercent ?? 0,
  };
}

type TcpPool = NonNullable<NonNullable<Policy['connectionPool']>['tcp']>;

/** Values that are absent are those of the kernel, as in Istio. */
function keepaliveOf({ time, interval, probes = 9 }: NonNullable<TcpPool['tcpKeepalive']>): KeepalivePolicy {
  const seconds = (text: string): number => takenDurationMs(text) / 1000;
  return { idleSeconds: seconds(time ?? '7200s'), everySeconds: seconds(interval ?? '75s'), probes };
}

function limitsOf(tcp: TcpPool): ConnectionLimits {
  const { maxConnections, maxPendingConnections, connectTimeout, idleTimeout, maxConnectionDuration } = tcp;
  const { tcpKeepalive } = tcp;
  return {
    ...(maxConnections === undefined ? {} : { max: maxConnections }),
    ...(maxPendingConnections === undefined ? {} : { maxPending: maxPendingConnections }),
    ...(connectTimeout === undefined ? {} : { connectTimeoutMs: takenDurationMs(connectTimeout) }),
    ...(idleTimeout === undefined ? {} : { idleTimeoutMs: takenDurationMs(idleTimeout) }),
    ...(maxConnectionDuration === undefined ? {} : { maxDurationMs: takenDurationMs(maxConnectionDuration) }),
    ...(tcpKeepalive === undefined ? {} : { keepalive: keepaliveOf(tcpKeepalive) }),
  };
}
