import { cidrContains, parseCidr } from '../../../shared/address.js';
import type { Clock } from '../../../shared/policy/connection.js';
import type {
  CompiledDestinationRule,
  CompiledRateLimit,
  CompiledVirtualService,
  RouteBackend,
  RouteMatch,
  TrafficPolicy,
  TrafficRoute,
} from '../../../shared/policy/traffic-documents.js';
import { balancingOf } from '../../../shared/routing/balancing.js';
import { everyEndpoint, hasLabels, servedPort } from '../../../shared/routing/destination.js';
import { hasExpired, writtenFaults } from '../../../shared/routing/faults.js';
import type { ServiceName } from '../../../shared/routing/names.js';
import { isLimited, isOfAll, rateLimitName } from '../../../shared/routing/rate-limits.js';
import type { RegistryService } from '../../../shared/routing/registry-entry.js';
import { isWildcard, serviceHost, wildcardMatches } from '../../../shared/routing/service-hosts.js';
import { routeText } from '../../../shared/routing/steering.js';
import { policyOfRule } from '../../../shared/routing/traffic-policies.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { lookupOf, type RegistryLookup } from '../registry/registry-lookup.js';
import type { LintFinding } from './lint-finding.js';

/** Weights of a document that was written for Istio are percentages. */
const wholeWeight = 100;

/** Finds what is suspicious in documents that steer traffic: DestinationRules, VirtualServices, TCPRoutes and RateLimits. */
export function lintTraffic({ snapshot, entries, clock }: RuleSet & { readonly clock: Clock }): LintFinding[] {
  const { destinationRules = [], virtualServices = [], rateLimits = [], mesh } = snapshot;
  const { rootNamespace } = mesh;
  if (destinationRules.length === 0 && virtualServices.length === 0 && rateLimits.length === 0) return [];
  const registry = lookupOf(entries);
  const services = entries.filter((entry) => entry.kind === 'service');
  return [
    ...destinationRules.flatMap((rule) => ofRule(rule, servicesOf(rule.host, services), registry)),
    ...virtualServices.flatMap((document) => ofDocument(document, servicesOf(document.host, services), registry)),
    ...virtualServices.flatMap((document) => ofFaults(document, clock.nowMs())),
    ...rateLimits.flatMap((limit) => ofLimit(limit, servicesOf(limit.host, services), { entries, rootNamespace })),
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
  const emptySubsets = (rule.subsets ?? []).flatMap(({ name, labels }) => {
    if (workloads.some((workload) => hasLabels(workload, labels))) return [];
    const message = `the subset ${name} matches no workload of ${rule.host}, so connections to it are refused`;
    return [warning('empty subset', resource, message, 'give the workloads its labels, or delete it')];
  });
  return [...emptySubsets, ...uselessWarmups(rule, services, resource)];
}

/** A consistentHash in the document with a warm-up is refused; the affinity of a Service is seen only here. */
function uselessWarmups(
  rule: CompiledDestinationRule,
  services: readonly RegistryService[],
  resource: string,
): LintFinding[] {
  return services.flatMap((service) => {
    const policies = service.ports.flatMap(({ port }) =>
      [null, ...(rule.subsets ?? [])].map((subset) => policyOfRule(rule, port, subset)),
    );
    const hasNoEffect = (policy: TrafficPolicy): boolean =>
      policy.warmup !== undefined && balancingOf(service, policy) === 'source-ip';
    if (!policies.some(hasNoEffect)) return [];
    const message = `warmup has no effect for ${serviceHost(service)}: it has sessionAffinity: ClientIP, by which a client stays with its workload`;
    const hint = 'write simple: LEAST_REQUEST next to warmup, which counts in place of the affinity, or delete warmup';
    return [warning('warmup without effect', resource, message, hint)];
  });
}

function ofDocument(
  document: CompiledVirtualService,
  services: readonly RegistryService[],
  registry: RegistryLookup,
): LintFinding[] {
  const own = document.routes.flatMap((route, index) => (isOwn(document, route) ? [{ route, index }] : []));
  const resources = new Set(own.map(({ index }) => resourceOf(document, index)));
  return [
    ...(services.length === 0 ? [...resources].map((resource) => unknownHost(resource, document.host)) : []),
    ...own.flatMap(({ route, index }) => [
      ...unreachable(document, index),
      ...unevenWeights(route, routeText({ document, index })),
      ...missingBackends(route, routeText({ document, index }), registry),
      ...mirrorFindings(route, routeText({ document, index }), registry),
    ]),
  ];
}

function mirrorFindings({ mirror }: TrafficRoute, route: string, registry: RegistryLookup): LintFinding[] {
  if (mirror === undefined || mirror.percent === 0) return [];
  const path = `${pathIn(route)}.mirror`;
  const { subset, service: name, port } = mirror;
  const resource = resourceIn(route);
  if (name === undefined) {
    if (subset !== null) return [];
    const message = `${path} is the service itself, whose endpoints get again what clients send`;
    return [warning('invalid backend', resource, message, 'name a subset or another service as the shadow')];
  }
  const service = registry.service(name as ServiceName);
  const why =
    service === undefined
      ? 'there is no such service'
      : port !== undefined && servedPort(service, port) === undefined
        ? `it has no port ${port}`
        : null;
  if (why === null) return [];
  const message = `${path} leads to ${name}: ${why}, so nothing is copied`;
  return [warning('invalid backend', resource, message, 'correct the shadow, or delete it')];
}

/** Faults are meant to end: that one ends soon is no finding. */
function ofFaults(document: CompiledVirtualService, nowMs: number): LintFinding[] {
  return document.routes.flatMap(({ faults }, index) => {
    if (faults === undefined) return [];
    const route = routeText({ document, index });
    return writtenFaults(faults).flatMap((written): LintFinding[] => {
      const { fault, percent, expiresAtMs } = written;
      const path = `${pathIn(route)}.fault.${fault}`;
      if (expiresAtMs === undefined) {
        if (percent === 0) return [];
        const message = `${path} has no expiresAt: it goes on until the document changes`;
        const hint = 'give it an expiresAt, so that a fault that is forgotten ends';
        return [{ ...warning('endless fault', resourceIn(route), message, hint), severity: 'info' }];
      }
      if (!hasExpired(written, nowMs)) return [];
      const message = `${path} has expired at ${new Date(expiresAtMs).toISOString()}`;
      return [warning('expired', resourceIn(route), message, 'delete it, or give it a later expiresAt')];
    });
  });
}

/** Routes that are there for another document's sake are found there. */
function isOwn({ namespace }: CompiledVirtualService, { origin }: TrafficRoute): boolean {
  return origin === undefined || origin.split('/')[1] === namespace;
}

function ofLimit(
  limit: CompiledRateLimit,
  services: readonly RegistryService[],
  { entries, rootNamespace }: { readonly entries: RuleSet['entries']; readonly rootNamespace: string },
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
  const named = clients.filter((client) => sources?.some((source) => isLimited(source, client)) ?? true);
  if (sources !== undefined && named.length === 0) {
    const message = 'no registered workload is one of its clients (from), so the limit is for no connection';
    found.push(warning('matches nothing', resource, message, 'correct from, or leave it out for all clients'));
    return found;
  }
  // In a namespace that is neither that of a service nor the root, it is for the clients of that namespace alone.
  const isForAll = services.some((service) => isOfAll(limit, { service, rootNamespace }));
  if (!isForAll && !named.some(({ namespace }) => namespace === limit.namespace)) {
    const { namespace } = limit;
    const message = `it is for clients of ${namespace} alone, its own namespace, and none of them is a client of it`;
    const hint = 'write it into the namespace of the service, or into the root namespace, for clients of others';
    found.push(warning('matches nothing', resource, `${message}, so the limit is for no connection`, hint));
  }
  return found;
}

/** `VirtualService/shop/web`: the document of a route. */
function resourceOf(document: CompiledVirtualService, index: number): string {
  return resourceIn(routeText({ document, index }));
}

function resourceIn(route: string): string {
  return route.slice(0, route.indexOf(' '));
}

/** `spec.tcp[0]`. */
function pathIn(route: string): string {
  return route.slice(route.indexOf(' ') + 1);
}

function missingBackends({ choices }: TrafficRoute, route: string, registry: RegistryLookup): LintFinding[] {
  return choices.flatMap(({ weight, backend }) => {
    if (backend === undefined || weight === 0) return [];
    const why = backend.invalid ?? missingBackend(backend, registry);
    if (why === null) return [];
    const message = `${pathIn(route)} leads to ${backend.service}: ${why}; that share of the connections is refused`;
    return [warning('invalid backend', resourceIn(route), message, 'correct the backend, or delete it')];
  });
}

/** Null: it serves the port. */
function missingBackend({ service: name, port }: RouteBackend, registry: RegistryLookup): string | null {
  const service = registry.service(name as ServiceName);
  if (service === undefined) return 'there is no such service';
  const served = servedPort(service, port);
  if (served === undefined) return `it has no port ${port ?? ''}`;
  const [vip] = service.vips;
  if (vip === undefined || everyEndpoint(registry, service, served, vip).length > 0) return null;
  return `it has no endpoint for port ${served.port}`;
}

function unknownHost(resource: string, host: string): LintFinding {
  const message = isWildcard(host) ? `no registered service matches ${host}` : `no service has the name ${host}`;
  return warning('unknown host', resource, message, 'correct the name, or register the service');
}

function unreachable(document: CompiledVirtualService, index: number): LintFinding[] {
  const route = routeText({ document, index });
  const earlier = document.routes
    .slice(0, index)
    .flatMap((route, at) => alternatives(route).map((match) => ({ match, at })));
  const firsts = alternatives(document.routes[index]).map((match) =>
    earlier.find((other) => matchCovers(other.match, match)),
  );
  if (firsts.length === 0 || firsts.includes(undefined)) return [];
  const resource = resourceIn(route);
  const nameOf = (at: number): string => {
    const other = routeText({ document, index: at });
    return resourceIn(other) === resource ? pathIn(other) : resourceIn(other);
  };
  const by = [...new Set(firsts.map((first) => nameOf(first?.at ?? 0)))].join(' and ');
  const message = `${pathIn(route)} leads no connection: ${by} comes first and matches all that it matches`;
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

/** Weights of the Gateway API are no percentages. */
function unevenWeights({ choices, origin }: TrafficRoute, route: string): LintFinding[] {
  if (origin !== undefined) return [];
  const sum = choices.reduce((total, { weight }) => total + weight, 0);
  if (choices.length < 2 || sum === wholeWeight) return [];
  const shares = choices
    .map(({ subset, weight }) => `${subset ?? 'all endpoints'} ${Number(((100 * weight) / sum).toFixed(1))} %`)
    .join(', ');
  const message = `the weights of ${pathIn(route)} add up to ${sum}, not to ${wholeWeight}: ${shares}`;
  return [
    {
      ...warning(
        'uneven weights',
        resourceIn(route),
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
