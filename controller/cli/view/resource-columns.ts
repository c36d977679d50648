import { assertNever } from '../../../shared/assert-never.js';
import { matchFieldNames } from '../../../shared/policy/match-fields.js';
import type { DestinationRule } from '../../resources/kinds/destination-rule.js';
import type { NetworkPolicySelector } from '../../resources/kinds/network-policy.js';
import { writtenField, type Peer } from '../../resources/kinds/peer.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource, ResourceKind } from '../../resources/kinds/resource.js';
import { kindInfo } from '../../resources/kinds/resource.js';
import type { ClusterPolicy } from '../../compile/compile-cluster-policies.js';
import { asksForDryRun } from '../../resources/kinds/authorization-policy.js';
import { compileRateLimits } from '../../compile/compile-rate-limits.js';
import { compileNetworkPolicies } from '../../compile/compile-network-policies.js';
import type { ResourceItem } from '../../api/api-types.js';
import { formatAge } from './format-time.js';
import { limitText } from '../../../shared/routing/rate-limits.js';
import { renderTable } from './table.js';

const clusterHeaders = ['PRIORITY', 'SUBJECT', 'INGRESS', 'EGRESS'] as const;

/** Columns of `culvert get` in addition to namespace, name, revision and age, which every kind has. */
const headers: Readonly<Record<ResourceKind, readonly string[]>> = {
  Namespace: ['LABELS'],
  Workload: ['SERVICE ACCOUNT', 'ADDRESSES', 'NODE', 'NETNS'],
  Service: ['VIPS', 'PORTS', 'SELECTOR'],
  ServiceEntry: ['HOSTS', 'ADDRESSES', 'PORTS'],
  DestinationRule: ['HOST', 'BALANCING', 'PORTS', 'SUBSETS', 'EXPORT TO'],
  VirtualService: ['HOST', 'ROUTES', 'EXPORT TO'],
  RateLimit: ['HOST', 'PORTS', 'FROM', 'PER', 'LIMIT', 'MODE'],
  TCPRoute: ['SERVICES', 'BACKENDS'],
  ReferenceGrant: ['FROM', 'TO'],
  Segment: ['MEMBERS'],
  SegmentationRule: ['TIER', 'PRIORITY', 'ACTION', 'MODE', 'FROM', 'TO', 'PORTS'],
  AuthorizationPolicy: ['ACTION', 'SELECTOR', 'RULES'],
  PeerAuthentication: ['MODE', 'SELECTOR', 'PORTS'],
  NetworkPolicy: ['SELECTOR', 'TYPES', 'INGRESS', 'EGRESS'],
  ClusterNetworkPolicy: ['TIER', ...clusterHeaders],
  AdminNetworkPolicy: clusterHeaders,
  BaselineAdminNetworkPolicy: ['SUBJECT', 'INGRESS', 'EGRESS'],
  Mesh: ['DEFAULT ACTION', 'OUTBOUND', 'MTLS', 'ROOT NAMESPACE'],
};

/** `Kind/namespace/name`, or `Kind/name`: what other commands take. */
export function resourceName(resource: Resource): string {
  return formatResourceId(resourceId(resource));
}

/** Rules in the order of evaluation. `isWide`: says where each is from, and shortens nothing, however narrow the terminal is. */
export function renderResources(
  kind: ResourceKind,
  items: readonly ResourceItem[],
  nowMs: number,
  { isWide = false }: { readonly isWide?: boolean } = {},
): string {
  const { isNamespaced } = kindInfo(kind);
  const ofOrigin = isWide ? ['ORIGIN'] : [];
  const header = [...(isNamespaced ? ['NAMESPACE'] : []), 'NAME', ...headers[kind], 'REVISION', 'APPLIED', ...ofOrigin];
  const ordered = [...items].sort((a, b) => orderOf(a.resource) - orderOf(b.resource));
  const rows = ordered.map(({ resource, revision, appliedAt, origin = 'documents' }) => {
    const { namespace, name } = resourceId(resource);
    const age = formatAge(Date.parse(appliedAt), nowMs);
    const row = [...(isNamespaced ? [namespace ?? ''] : []), name, ...cells(resource), String(revision), age];
    return isWide ? [...row, origin] : row;
  });
  return renderTable(header, rows, { isWide });
}

const tierOrder = { platform: 0, team: 1, baseline: 2 } as const;

/** Rules stand in the order in which they are evaluated; of other kinds the order of the answer is kept. */
function orderOf(resource: Resource): number {
  if (resource.kind !== 'SegmentationRule') return 0;
  // A priority is at most a million.
  return tierOrder[resource.spec.tier] * 10_000_000 + resource.spec.priority;
}

function cells(resource: Resource): string[] {
  switch (resource.kind) {
    case 'Workload': {
      const { serviceAccount, addresses, node = '', netns = '' } = resource.spec;
      return [serviceAccount, addresses.join(','), node, netns];
    }
    case 'Service': {
      const { vips, ports, selector } = resource.spec;
      const shown = ports.map(({ port, targetPort = port }) =>
        port === targetPort ? `${port}` : `${port}→${targetPort}`,
      );
      return [vips.join(','), shown.join(','), labels(selector)];
    }
    case 'Namespace':
      return [labels(resource.metadata.labels ?? {})];
    case 'ServiceEntry': {
      const { hosts, addresses = [], endpoints = [], ports } = resource.spec;
      const shown = [...addresses, ...endpoints.map(({ address }) => address)];
      return [hosts.join(','), shown.join(','), ports?.map(({ number }) => number).join(',') ?? 'any'];
    }
    case 'DestinationRule': {
      const { host, trafficPolicy, subsets = [], exportTo = ['*'] } = resource.spec;
      const ports = (trafficPolicy?.portLevelSettings ?? []).map(
        ({ port, loadBalancer }) => `${port.number}:${balancing(loadBalancer)}`,
      );
      const parts = subsets.map(({ name }) => name).join(',');
      return [host, balancing(trafficPolicy?.loadBalancer), ports.join(','), parts, exportTo.join(',')];
    }
    case 'VirtualService': {
      const { hosts, tcp, exportTo = ['*'] } = resource.spec;
      const routes = tcp.map(({ route }) =>
        route.map(
          ({ destination, weight }) => `${destination.subset ?? 'all'}${weight === undefined ? '' : `:${weight}`}`,
        ),
      );
      return [hosts.join(','), routes.map((choices) => choices.join('/')).join(','), exportTo.join(',')];
    }
    case 'RateLimit': {
      const { host, ports, from, per, mode } = resource.spec;
      const limit = compileRateLimits([resource]).map(limitText);
      return [host, ports?.join(',') ?? 'any', from === undefined ? 'any' : peers(from), per, limit.join(), mode];
    }
    case 'TCPRoute': {
      const { parentRefs, rules } = resource.spec;
      const backends = rules.flatMap(({ backendRefs }) =>
        backendRefs.map((ref) => `${referentText(ref)}${ref.weight === undefined ? '' : `=${ref.weight}`}`),
      );
      return [parentRefs.map(referentText).join(','), backends.join('/')];
    }
    case 'ReferenceGrant': {
      const { from, to } = resource.spec;
      const names = to.map(({ kind, name }) => (name === undefined ? kind : `${kind}/${name}`));
      return [from.map(({ kind, namespace }) => `${kind}s of ${namespace}`).join(','), names.join(',')];
    }
    case 'PeerAuthentication': {
      const { mtls, selector, portLevelMtls = {} } = resource.spec;
      const ports = Object.entries(portLevelMtls).map(([port, { mode = 'UNSET' }]) => `${port}:${mode}`);
      return [mtls?.mode ?? 'UNSET', labels(selector?.matchLabels ?? {}), ports.join(',')];
    }
    case 'NetworkPolicy': {
      const { podSelector, ingress = [], egress = [] } = resource.spec;
      const types = compileNetworkPolicies([resource]).map((policy) =>
        [policy.ingress === null ? '' : 'Ingress', policy.egress === null ? '' : 'Egress'].filter(
          (type) => type !== '',
        ),
      );
      return [selectorText(podSelector), types.join(','), String(ingress.length), String(egress.length)];
    }
    case 'ClusterNetworkPolicy':
      return [resource.spec.tier, String(resource.spec.priority), ...clusterCells(resource)];
    case 'AdminNetworkPolicy':
      return [String(resource.spec.priority), ...clusterCells(resource)];
    case 'BaselineAdminNetworkPolicy':
      return clusterCells(resource);
    case 'Segment':
      return [peers(resource.spec.members)];
    case 'SegmentationRule': {
      const { tier, priority, action, mode, from, to, ports } = resource.spec;
      return [tier, String(priority), action, mode, peers(from), peers(to), ports?.join(',') ?? 'any'];
    }
    case 'AuthorizationPolicy': {
      const { action, selector, rules = [] } = resource.spec;
      const isDryRun = asksForDryRun(resource.metadata.annotations) === true;
      return [isDryRun ? `${action} (dry run)` : action, labels(selector?.matchLabels ?? {}), String(rules.length)];
    }
    case 'Mesh': {
      const { defaultAction, outbound = defaultAction, mtls, rootNamespace } = resource.spec;
      return [defaultAction, outbound, mtls, rootNamespace];
    }
    default:
      return assertNever(resource);
  }
}

/** `shop/web:80`, without what is not written. */
function referentText({
  namespace,
  name,
  port,
}: {
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
}): string {
  return `${namespace === undefined ? '' : `${namespace}/`}${name}${port === undefined ? '' : `:${port}`}`;
}

function clusterCells({ spec: { subject, ingress = [], egress = [] } }: ClusterPolicy): string[] {
  const { namespaces, pods } = subject;
  const of = selectorText(pods?.namespaceSelector ?? namespaces ?? {});
  const selected = [of === '' ? '' : `ns[${of}]`, selectorText(pods?.podSelector ?? {})].filter((text) => text !== '');
  return [selected.join('&') || 'any', String(ingress.length), String(egress.length)];
}

function balancing(written: NonNullable<DestinationRule['spec']['trafficPolicy']>['loadBalancer']): string {
  return written?.consistentHash === undefined ? (written?.simple ?? 'UNSPECIFIED') : 'useSourceIp';
}

function labels(selector: Readonly<Record<string, string>>): string {
  return Object.entries(selector)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

function selectorText({ matchLabels = {}, matchExpressions = [] }: NetworkPolicySelector): string {
  const expressions = matchExpressions.map(
    ({ key, operator, values = [] }) => `${key} ${operator} ${values.join('|')}`,
  );
  return [labels(matchLabels), ...expressions.map((text) => text.trim())].filter((text) => text !== '').join(',');
}

const maxPeers = 3;

/** `sa:billing/api,seg:batch,+2`. */
function peers(list: readonly Peer[] | undefined): string {
  if (list === undefined) return 'any';
  const shown = list.slice(0, maxPeers).map(describePeer);
  return [...shown, ...(list.length > maxPeers ? [`+${list.length - maxPeers}`] : [])].join(',');
}

function describePeer(peer: Peer): string {
  const parts = matchFieldNames.flatMap((field) => {
    const found = writtenField(field, peer);
    return found === undefined ? [] : [found.document.column(found.written)];
  });
  return parts.join('&');
}
