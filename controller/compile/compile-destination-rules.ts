import { completeHost } from '../../shared/routing/service-hosts.js';
import type {
  Balancing,
  CompiledDestinationRule,
  ConnectionLimits,
  TrafficPolicy,
} from '../../shared/policy/snapshot.js';
import type { DestinationRule } from '../resources/kinds/destination-rule.js';
import { takenDurationMs } from '../resources/kinds/duration-field.js';
import { byNamespaceAndName } from './compile-authorization.js';

type Policy = Pick<NonNullable<DestinationRule['spec']['trafficPolicy']>, 'loadBalancer' | 'connectionPool'>;

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
function policyOf({ loadBalancer, connectionPool }: Policy): TrafficPolicy {
  const balancing =
    loadBalancer?.consistentHash === undefined
      ? balancingOf[loadBalancer?.simple ?? 'UNSPECIFIED']
      : ('source-ip' as const);
  const connections = limitsOf(connectionPool?.tcp ?? {});
  return {
    ...(balancing === null ? {} : { balancing }),
    ...(Object.keys(connections).length === 0 ? {} : { connections }),
  };
}

function limitsOf(tcp: NonNullable<NonNullable<Policy['connectionPool']>['tcp']>): ConnectionLimits {
  const { maxConnections, maxPendingConnections, connectTimeout, idleTimeout, maxConnectionDuration } = tcp;
  return {
    ...(maxConnections === undefined ? {} : { max: maxConnections }),
    ...(maxPendingConnections === undefined ? {} : { maxPending: maxPendingConnections }),
    ...(connectTimeout === undefined ? {} : { connectTimeoutMs: takenDurationMs(connectTimeout) }),
    ...(idleTimeout === undefined ? {} : { idleTimeoutMs: takenDurationMs(idleTimeout) }),
    ...(maxConnectionDuration === undefined ? {} : { maxDurationMs: takenDurationMs(maxConnectionDuration) }),
  };
}
