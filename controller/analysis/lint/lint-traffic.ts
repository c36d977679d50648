import { cidrContains, parseCidr } from '../../../shared/address.js';
import type {
  CompiledDestinationRule,
  CompiledRateLimit,
  CompiledVirtualService,
  RouteMatch,
  TrafficRoute,
} from '../../../shared/policy/traffic-documents.js';
import { hasLabels, servedPort } from '../../../shared/routing/destination.js';
import { isLimited, rateLimitName } from '../../../shared/routing/rate-limits.js';
import type { RegistryService } from '../../../shared/routing/registry-entry.js';
import { isWildcard, serviceHost, wildcardMatches } from '../../../shared/routing/service-hosts.js';
import { routeText } from '../../../shared/routing/steering.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { lookupOf, type RegistryLookup } from '../registry/registry-lookup.js';
import type { LintFinding } from './lint-finding.js';

/** Weights of a document that was written for Istio are percentages. */
const wholeWeight = 100;

/** Finds what is suspicious in documents that steer traffic: DestinationRules, VirtualServices and RateLimits. */
export function lintTraffic({ snapshot, entries }: RuleSet): LintFinding[] {
  const { destinationRules = [], virtualServices = [], rateLimits = [] } = snapshot;
  if (destinationRules.length === 0 && virtualServices.length === 0 && rateLimits.length === 0) return [];
  const registry = lookupOf(entries);
  const services = entries.filter((entry) => entry.kind === 'service');
  return [
    ...destinationRules.flatMap((rule) => ofRule(rule, servicesOf(rule.host, services), registry)),
    ...virtualServices.flatMap((document) => ofDocument(document, servicesOf(document.host, services))),
    ...rateLimits.flatMap((limit) => ofLimit(limit, servicesOf(limit.host, services), entries)),
  ];
}

function servicesOf(host: string, services: readonly RegistryService[]): RegistryService[] {
  return services.filter((service) =>
    isWildcard(host) ? wildcardMatches(host, serviceHost(service)) : host === serviceHost(service),
  );
}

function ofRule(
  rule: CompiledDestinationRule,
  services: readonly RegistryService[],
  registry: RegistryLookup,
): LintFinding[] {
  const resource = `DestinationRule/${rule.namespace}/${rule.name}`;
  if (services.length === 0) return [unknownHost(resource, rule.host)];
  const workloads = services.flatMap((service) => registry.endpointsOf(service));
  return (rule.subsets ?? []).flatMap(({ name, labels }) => {
    if (workloads.some((workload) => hasLabels(workload, labels))) return [];
    const message = `the subset ${name} matches no workload of ${rule.host}, so connections to it are refused`;
    return [warning('empty subset', resource, message, 'give the workloads its labels, or delete it')];
  });
}

function ofDocument(document: CompiledVirtualService, services: readonly RegistryService[]): LintFinding[] {
  const resource = `VirtualService/${document.namespace}/${document.name}`;
  return [
    ...(services.length === 0 ? [unknownHost(resource, document.host)] : []),
    ...document.routes.flatMap((route, index) => [
      ...unreachable(document, index, resource),
      ...unevenWeights(route, routeText({ document, index }), resource),
    ]),
  ];
}

function ofLimit(
  limit: CompiledRateLimit,
  services: readonly RegistryService[],
  entries: RuleSet['entries'],
): LintFinding[] {
  const resource = rateLimitName(limit);
  if (services.length === 0) return [unknownHost(resource, limit.host)];
  const found: LintFinding[] = [];
  const { ports, sources } = limit;
  if (ports?.every((port) => !services.some((service) => servedPort(service, port) !== undefined)) === true) {
    const message = `${limit.host} has none of the ports ${ports.join(', ')}, so the limit is for no connection`;
    found.push(warning('matches nothing', resource, message, 'write the ports that clients dial, or leave ports out'));
  }
  const clients = entries.filter((entry) => entry.kind === 'workload');
  if (sources !== undefined && !clients.some((client) => sources.some((source) => isLimited(source, client)))) {
    const message = 'no registered workload is one of its clients (from), so the limit is for no connection';
    found.push(warning('matches nothing', resource, message, 'correct from, or leave it out for all clients'));
  }
  return found;
}

function unknownHost(resource: string, host: string): LintFinding {
  const message = isWildcard(host) ? `no registered service matches ${host}` : `no service has the name ${host}`;
  return warning('unknown host', resource, message, 'correct spec.host or spec.hosts, or register the service');
}

function unreachable(document: CompiledVirtualService, index: number, resource: string): LintFinding[] {
  const earlier = document.routes
    .slice(0, index)
    .flatMap((route, at) => alternatives(route).map((match) => ({ match, at })));
  const firsts = alternatives(document.routes[index]).map((match) =>
    earlier.find((other) => matchCovers(other.match, match)),
  );
  if (firsts.length === 0 || firsts.includes(undefined)) return [];
  const by = [...new Set(firsts.map((first) => `spec.tcp[${first?.at ?? 0}]`))].join(' and ');
  const message = `spec.tcp[${index}] leads no connection: ${by} comes first and matches all that it matches`;
  return [warning('unreachable route', resource, message, 'put the narrower route first, or delete it')];
}

function alternatives({ matches }: Pick<TrafficRoute, 'matches'> = { matches: [] }): readonly RouteMatch[] {
  return matches.length === 0 ? [{}] : matches;
}

/** Whether every connection that the second matches is matched by the first. */
function matchCovers(wide: RouteMatch, narrow: RouteMatch): boolean {
  if (wide.port !== undefined && wide.port !== narrow.port) return false;
  if (wide.sourceNamespace !== undefined && wide.sourceNamespace !== narrow.sourceNamespace) return false;
  const { sourceLabels = {}, destinationSubnets } = wide;
  if (Object.entries(sourceLabels).some(([label, value]) => narrow.sourceLabels?.[label] !== value)) return false;
  if (destinationSubnets === undefined) return true;
  const within = (text: string): boolean => destinationSubnets.some((other) => isWithin(text, other));
  return narrow.destinationSubnets?.every(within) ?? false;
}

function isWithin(text: string, other: string): boolean {
  const [narrow, wide] = [parseCidr(text), parseCidr(other)];
  if (narrow === undefined || wide === undefined) return false;
  return narrow.prefixLength >= wide.prefixLength && cidrContains(wide, narrow.bytes);
}

function unevenWeights({ choices }: TrafficRoute, route: string, resource: string): LintFinding[] {
  const sum = choices.reduce((total, { weight }) => total + weight, 0);
  if (choices.length < 2 || sum === wholeWeight) return [];
  const shares = choices
    .map(({ subset, weight }) => `${subset ?? 'all endpoints'} ${Number(((100 * weight) / sum).toFixed(1))} %`)
    .join(', ');
  const path = route.slice(route.indexOf(' ') + 1);
  const message = `the weights of ${path} add up to ${sum}, not to ${wholeWeight}: ${shares}`;
  return [
    {
      ...warning(
        'uneven weights',
        resource,
        message,
        `write weights that add up to ${wholeWeight}, if these were meant as percentages`,
      ),
      severity: 'info',
    },
  ];
}

function warning(kind: LintFinding['kind'], resource: string, message: string, hint: string): LintFinding {
  return { kind, severity: 'warning', resource, other: null, message, hint };
}
