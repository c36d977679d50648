import type { Cidr } from '../../../shared/address.js';
import { isPortName } from '../../../shared/policy/prepared/prepared-rule.js';
import type { PeerMatch, RulePort } from '../../../shared/policy/snapshot.js';
import { networksOf } from '../../resources/match/network-relations.js';
import { pinsOf } from '../../resources/match/peer-fields.js';
import { isOfSegment, type PeerGroups } from '../segment-members.js';

/**
 * What must be true of whatever an item matches, so that two items that exclude each other are found without comparing
 * them. It never says too much: items that both match something agree in every dimension.
 */
export type Requirements = {
  /** By dimension: the values of which one must be there. A dimension that is missing takes any value. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  /** By dimension: the networks that the address must be in. */
  readonly networks: ReadonlyMap<string, readonly Cidr[]>;
};

/** Longer lists are taken for "any". */
const maxValues = 4096;
/** The same for segments: each rule that names one is in an index with all its values. */
const maxValuesOfSegment = 64;

/** Of one alternative. */
export function requirementsOf(match: PeerMatch): Requirements {
  const values = new Map<string, readonly string[]>();
  const networks = new Map<string, readonly Cidr[]>();
  for (const field of ['serviceAccounts', 'workloads', 'nodes'] as const) put(values, field, match[field]);
  const [pinned, ...others] = pinsOf(match);
  put(
    values,
    'namespaces',
    others.reduce((least, pins) => (pins.length < (least?.length ?? 0) ? pins : least), pinned),
  );
  for (const [name, value] of Object.entries(match.labels ?? {})) values.set(`label ${name}`, [value]);
  for (const [name, value] of Object.entries(match.namespaceLabels ?? {})) values.set(`of namespace ${name}`, [value]);
  if (match.cidrs !== undefined) put(networks, 'address', networksOf(match).cidrs);
  return { values, networks };
}

/** Of one side of a rule, which matches what any alternative matches. */
function requirementsOfGroups(groups: PeerGroups): Requirements {
  const parts = groups.map(requirementsOfGroup);
  return anyOf(parts);
}

/** Of a rule: of both sides and of the port. */
export function requirementsOfRule(rule: {
  readonly from: PeerGroups;
  readonly to: PeerGroups;
  readonly ports: readonly RulePort[];
}): Requirements {
  const [from, to] = [requirementsOfGroups(rule.from), requirementsOfGroups(rule.to)];
  const values = new Map([...named('from', from.values), ...named('to', to.values)]);
  put(values, 'port', portsOf(rule.ports));
  // No port has two names, so rules by names alone exclude each other. A number may have any name.
  if (rule.ports.every(isPortName)) put(values, 'port name', rule.ports);
  return { values, networks: new Map([...named('from', from.networks), ...named('to', to.networks)]) };
}

/** Segments are shared by many rules. */
const known = new WeakMap<readonly PeerMatch[], Requirements>();

function requirementsOfGroup(group: readonly PeerMatch[]): Requirements {
  let requirements = known.get(group);
  if (requirements === undefined) {
    requirements = anyOf(group.map(requirementsOf), isOfSegment(group) ? maxValuesOfSegment : maxValues);
    known.set(group, requirements);
  }
  return requirements;
}

function anyOf(parts: readonly Requirements[], most = maxValues): Requirements {
  return {
    values: unionOf(
      parts.map(({ values }) => values),
      (all) => [...new Set(all)],
      most,
    ),
    networks: unionOf(
      parts.map(({ networks }) => networks),
      (all) => all,
      most,
    ),
  };
}

function unionOf<V>(
  parts: readonly ReadonlyMap<string, readonly V[]>[],
  distinct: (all: readonly V[]) => readonly V[],
  most: number,
): ReadonlyMap<string, readonly V[]> {
  const union = new Map<string, readonly V[]>();
  const [first, ...others] = parts;
  for (const dimension of first?.keys() ?? []) {
    if (!others.every((part) => part.has(dimension))) continue;
    put(union, dimension, distinct(parts.flatMap((part) => part.get(dimension) ?? [])), most);
  }
  return union;
}

function put<V>(
  map: Map<string, readonly V[]>,
  dimension: string,
  values: readonly V[] | undefined,
  most = maxValues,
): void {
  // An empty list matches nothing. To compare it in full is simpler than to treat it in an index.
  if (values !== undefined && values.length > 0 && values.length <= most) map.set(dimension, values);
}

function named<V>(side: string, map: ReadonlyMap<string, V>): (readonly [string, V])[] {
  return [...map].map(([dimension, value]) => [`${side} ${dimension}`, value] as const);
}

/** Undefined: any port, a name that stands for any, or too many. */
function portsOf(ports: readonly RulePort[]): string[] | undefined {
  const found: string[] = [];
  for (const port of ports) {
    if (isPortName(port) || port[1] - port[0] > maxValues) return undefined;
    for (let number = port[0]; number <= port[1]; number++) found.push(String(number));
    if (found.length > maxValues) return undefined;
  }
  return found.length === 0 ? undefined : found;
}
