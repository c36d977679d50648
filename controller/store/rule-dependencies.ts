import { referencesIn } from '../compile/check/references.js';
import type { IpAddress } from '../../shared/address.js';
import type { ReferencedName } from '../resources/match/peer-field.js';
import type { PeerAuthentication } from '../resources/kinds/peer-authentication.js';
import type { Resource } from '../resources/kinds/resource.js';
import { parseTestParty } from '../resources/kinds/rule-test.js';
import type { SegmentationRule } from '../resources/kinds/segmentation-rule.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { resourcesOf } from '../release/committed-state.js';

/** Indexes the rules of a release by the workloads and services that they depend on, to find the few that a change affects. */
export type RuleDependencies = {
  readonly resources: readonly Resource[];
  readonly trustDomain: string;
  /** Rules, policies and segments by the workloads, accounts and services that they name, as {@link nameKey}. */
  readonly naming: ReadonlyMap<string, ReadonlySet<Resource>>;
  /** PeerAuthentications of namespaces that have several, which may disagree about a workload; each list by name. */
  readonly rivals: ReadonlyMap<string, readonly PeerAuthentication[]>;
  /** Rules with tests, by the namespaces and addresses that the tests name. */
  readonly testedNamespaces: ReadonlyMap<string, ReadonlySet<SegmentationRule>>;
  readonly testedAddresses: ReadonlyMap<IpAddress, ReadonlySet<SegmentationRule>>;
};

const known = new WeakMap<CompiledRevision, RuleDependencies>();

export function ruleDependencies(release: CompiledRevision): RuleDependencies {
  const dependencies =
    known.get(release) ?? dependenciesAmong(resourcesOf(release.state), release.snapshot.trustDomain);
  known.set(release, dependencies);
  return dependencies;
}

/** Whether a rule names one of the services among these registry keys. */
export function namesServiceAmong({ naming }: RuleDependencies, registryKeys: Iterable<string>): boolean {
  return [...registryKeys].some((key) => {
    const [kind, namespace, ...name] = key.split('.');
    return kind === 'service' && naming.has(nameKey('service', `${namespace}/${name.join('.')}`));
  });
}

/** Key of {@link RuleDependencies.naming}. */
export function nameKey(kind: ReferencedName, name: string): string {
  return `${kind} ${name}`;
}

/** Namespaces and addresses that the tests of a rule name. */
export function partiesOf({ spec }: SegmentationRule): { namespaces: Set<string>; addresses: Set<IpAddress> } {
  const [namespaces, addresses] = [new Set<string>(), new Set<IpAddress>()];
  for (const { from, to } of spec.tests ?? []) {
    for (const party of [parseTestParty(from), parseTestParty(to)]) {
      if (party === undefined) continue;
      if ('ip' in party) addresses.add(party.ip);
      else namespaces.add(party.name.slice(0, party.name.indexOf('/')));
    }
  }
  return { namespaces, addresses };
}

/** The same for rules that are not in force, such as those that a deletion leaves. */
export function dependenciesAmong(resources: readonly Resource[], trustDomain: string): RuleDependencies {
  const naming = new Map<string, Set<Resource>>();
  const rivals = new Map<string, PeerAuthentication[]>();
  const testedNamespaces = new Map<string, Set<SegmentationRule>>();
  const testedAddresses = new Map<IpAddress, Set<SegmentationRule>>();
  for (const resource of resources) {
    for (const { to, written } of referencesIn(resource, trustDomain)) add(naming, nameKey(to, written), resource);
    if (resource.kind === 'PeerAuthentication') {
      const { namespace } = resource.metadata;
      const those = rivals.get(namespace);
      if (those === undefined) rivals.set(namespace, [resource]);
      else those.push(resource);
    }
    if (resource.kind !== 'SegmentationRule') continue;
    const { namespaces, addresses } = partiesOf(resource);
    for (const namespace of namespaces) add(testedNamespaces, namespace, resource);
    for (const ip of addresses) add(testedAddresses, ip, resource);
  }
  for (const [namespace, policies] of rivals) {
    if (policies.length < 2) rivals.delete(namespace);
    else policies.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }
  return { resources, trustDomain, naming, rivals, testedNamespaces, testedAddresses };
}

function add<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const present = sets.get(key);
  if (present === undefined) sets.set(key, new Set([value]));
  else present.add(value);
}
