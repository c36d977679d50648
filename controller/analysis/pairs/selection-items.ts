import type { Clock } from '../../../shared/policy/connection.js';
import { isPortName, rangesOf } from '../../../shared/policy/prepared/prepared-rule.js';
import type { AuthorizationCondition, PortRange, RulePort, Snapshot } from '../../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RuleSet } from './rule-set.js';
import { Selectors, type Selector, type Side } from './selectors.js';

/**
 * A part of a set of rules that applies to a connection when both selectors select its ends (null: every end). Pairs to
 * which the same items apply are decided alike on every port range between the items' cuts.
 */
export type SelectionItem = {
  readonly source: Selector | null;
  readonly destination: Selector | null;
  /** Ports at which the decision may differ from that for the port below. */
  readonly cuts: readonly number[];
};

const isMeshed: Selector = { key: 'meshed', namespaces: null, selects: (end) => end.isMeshed };
const standsForMany: Selector = { key: 'many', namespaces: null, selects: (end) => end.standsForMany === true };
const isExternal: Selector = { key: 'external', namespaces: null, selects: (end) => end.party.workload === null };

/** Every item of a set. */
export function selectionItems({ snapshot, entries }: RuleSet, clock: Clock): SelectionItem[] {
  const selectors = new Selectors({ snapshot, clock });
  return [
    item({ source: isMeshed }),
    item({ source: standsForMany }),
    item({ destination: isMeshed }),
    item({ destination: isExternal }),
    ...ruleItems(snapshot, selectors),
    ...authorizationItems(snapshot, selectors),
    ...networkItems(snapshot, selectors),
    ...clusterItems(snapshot, selectors),
    ...mtlsItems(snapshot, selectors),
    ...externalItems(snapshot, selectors),
    ...namedPortItems(snapshot, entries),
  ];
}

function item({
  source = null,
  destination = null,
  cuts = [],
}: {
  source?: Selector | null;
  destination?: Selector | null;
  cuts?: readonly number[];
}): SelectionItem {
  return { source, destination, cuts };
}

function ruleItems({ rules }: Snapshot, selectors: Selectors): SelectionItem[] {
  return rules.flatMap((rule) => {
    const destination = selectors.peers('destination', rule.to, false);
    const source = selectors.peers('source', rule.from, rule.action === 'deny');
    const matched = item({ source, destination, cuts: cutsOf(rule.ports) });
    if (rule.rollout <= 0 || rule.rollout >= 100) return [matched];
    return [matched, item({ source: selectors.rollout(rule), destination })];
  });
}

function authorizationItems({ authorizationPolicies }: Snapshot, selectors: Selectors): SelectionItem[] {
  return authorizationPolicies.flatMap((policy) => {
    const destination = selectors.authorizationTarget(policy);
    const ruleParts = policy.rules.flatMap(({ from, to, when = [] }) => {
      const ports = to.flatMap((operation) => [...(operation.ports ?? []), ...(operation.notPorts ?? [])]);
      return [
        item({ source: selectors.authorizationSource(from), destination, cuts: cutsOf(ports.map(single)) }),
        ...when.map((condition) => conditionItem(condition, destination, selectors)),
      ];
    });
    return [item({ destination }), ...ruleParts];
  });
}

function conditionItem(condition: AuthorizationCondition, target: Selector, selectors: Selectors): SelectionItem {
  const { key, values = [], notValues = [] } = condition;
  if (key === 'destination.port') {
    return item({ destination: target, cuts: cutsOf([...values, ...notValues].map((text) => single(Number(text)))) });
  }
  const side: Side = key === 'destination.ip' ? 'destination' : 'source';
  const selector = selectors.authorizationCondition(side, condition);
  return side === 'source' ? item({ source: selector, destination: target }) : item({ destination: selector });
}

function networkItems({ networkPolicies }: Snapshot, selectors: Selectors): SelectionItem[] {
  return networkPolicies.flatMap((policy) => {
    const items: SelectionItem[] = [];
    for (const [rules, side, otherSide] of [
      [policy.ingress, 'destination', 'source'],
      [policy.egress, 'source', 'destination'],
    ] as const) {
      if (rules === null) continue;
      const target = selectors.networkTarget(side, policy);
      items.push(item({ [side]: target }));
      for (const { peers, ports } of rules) {
        const others = selectors.networkPeers(otherSide, policy.namespace, peers);
        items.push(item({ [side]: target, [otherSide]: others, cuts: cutsOf(ports) }));
      }
    }
    return items;
  });
}

function clusterItems({ clusterPolicies = [] }: Snapshot, selectors: Selectors): SelectionItem[] {
  return clusterPolicies.flatMap(({ subject, ingress, egress }) => {
    const items: SelectionItem[] = [];
    for (const [rules, side, otherSide] of [
      [ingress, 'destination', 'source'],
      [egress, 'source', 'destination'],
    ] as const) {
      if (rules.length === 0) continue;
      const target = selectors.clusterSubject(side, subject);
      for (const { peers, ports } of rules) {
        items.push(item({ [side]: target, cuts: cutsOf(ports) }));
        // Each by itself: what a source only claims counts for some rules and not for others.
        for (const peer of peers)
          items.push(item({ [side]: target, [otherSide]: selectors.clusterPeer(otherSide, peer) }));
      }
    }
    return items;
  });
}

/** The ports and workloads at which sources without an agent are refused. */
function mtlsItems({ peerAuthentications }: Snapshot, selectors: Selectors): SelectionItem[] {
  return peerAuthentications.map(({ namespace, name, selector, ports }) => {
    const target = { namespace, name, selector, action: 'ALLOW', rules: [] } as const;
    const destination = selectors.authorizationTarget(target);
    return item({ destination, cuts: cutsOf(Object.keys(ports).map((port) => single(Number(port)))) });
  });
}

function externalItems({ externals }: Snapshot, selectors: Selectors): SelectionItem[] {
  return externals.map(({ cidrs, ports }) => {
    const destination = selectors.peers('destination', [{ cidrs }], false);
    return item({ destination, cuts: cutsOf(ports) });
  });
}

/** What the names in rules stand for: the destinations that give a name to a port are decided alike but for it. */
function namedPortItems(
  { rules, networkPolicies, clusterPolicies = [] }: Snapshot,
  entries: readonly RegistryEntry[],
): SelectionItem[] {
  const inPolicies = [...networkPolicies, ...clusterPolicies].flatMap(({ ingress, egress }) => [
    ...(ingress ?? []),
    ...(egress ?? []),
  ]);
  const names = new Set([...rules, ...inPolicies].flatMap(({ ports }) => ports.filter(isPortName)));
  if (names.size === 0) return [];
  const items = new Map<string, SelectionItem>();
  for (const entry of entries) {
    if (entry.kind !== 'workload') continue;
    for (const [name, port] of Object.entries(entry.ports ?? {})) {
      const key = `port ${name}=${port}`;
      if (!names.has(name) || items.has(key)) continue;
      const selects: Selector['selects'] = ({ party }) => party.workload?.ports?.[name] === port;
      items.set(key, item({ destination: { key, namespaces: null, selects }, cuts: cutsOf([single(port)]) }));
    }
  }
  return [...items.values()];
}

function single(port: number): PortRange {
  return [port, port];
}

/** Those of names are in {@link namedPortItems}. */
function cutsOf(ports: readonly RulePort[]): number[] {
  return rangesOf(ports).flatMap(([first, last]) => [first, last + 1]);
}
