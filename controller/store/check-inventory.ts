import { isDeepStrictEqual } from 'node:util';
import { checkSelected } from '../compile/check/check-foreign-policies.js';
import { checkReferences, checkSelector } from '../compile/check/check-references.js';
import { claimsOf } from '../inventory/entry-claims.js';
import type { Inventory } from '../inventory/inventory.js';
import { documentsSource } from '../inventory/inventory-source.js';
import type { AppliedChange, HeldEntry } from '../inventory/merged-registry.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { Problem } from '../resources/kinds/problem.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { Service } from '../resources/kinds/service.js';
import type { RegistryEntry, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { selects } from '../../shared/routing/registry-view.js';
import { nameKey, type RuleDependencies } from './rule-dependencies.js';

/**
 * Checks workloads and services just applied to the inventory, and the rules that they affect. Errors: an address that two
 * documents claim, and PeerAuthentications that disagree about a workload. Warnings: names in rules that no longer exist,
 * services without endpoints, and conflicts with other sources. Checks only what the change touches, whereas `validateSet`
 * checks everything. Errors come first.
 */
export function checkInventory(init: {
  readonly inventory: Inventory;
  readonly applied: AppliedChange;
  readonly rules: RuleDependencies;
  readonly locations: ReadonlyMap<string, ResourceLocation>;
}): Problem[] {
  const { inventory, applied, rules, locations } = init;
  const { registered } = inventory.registry;
  const problems = new ProblemList({ locations });
  const written: HeldEntry[] = [];
  for (const key of applied.held.keys()) {
    const held = inventory.documents.get(key);
    if (held !== undefined) written.push(held);
  }
  checkClaims(inventory, written, problems);
  checkPolicies(written, rules, problems);
  for (const service of concernedServices(inventory, applied)) checkSelector(service, registered, problems);
  const names = lostNames(inventory, applied);
  const naming = new Set(names.flatMap((name) => [...(rules.naming.get(name) ?? [])]));
  const externals = rules.resources.filter(({ kind }) => kind === 'ServiceEntry');
  const lost = new Set(names);
  if (naming.size > 0) {
    checkReferences([...naming, ...externals], registered, problems, rules.trustDomain, (to, name) =>
      lost.has(nameKey(to, name)),
    );
  }
  for (const { claim, winner, loser } of applied.conflicts) {
    const resource = inventory.documents.get(winner.source === documentsSource ? winner.key : loser.key)?.document
      ?.resource;
    if (resource === undefined || winner.source === loser.source) continue;
    const message = `${claim} is claimed by ${loser.key} of ${loser.source} too: ${winner.source} comes first`;
    problems.warn({ resource, path: [] }, message, 'remove it from one of the two');
  }
  return [...problems.errors, ...problems.warnings];
}

/** An address, or a network namespace of a node, may belong to one document only. */
function checkClaims(inventory: Inventory, written: readonly HeldEntry[], problems: ProblemList): void {
  const checked = new Set<HeldEntry>();
  for (const held of written) {
    const resource = held.document?.resource;
    const claims = claimsOf(held.entry);
    for (const [index, claim] of claims.entries()) {
      const isTwice = claims.indexOf(claim) < index;
      const others = inventory.registry
        .claimantsOf(claim)
        .filter((other) => other !== held && other.source === documentsSource);
      // If both are new, the later one is reported.
      const owner = isTwice ? held : others.find((other) => checked.has(other) || !written.includes(other));
      const owned = owner?.document?.resource;
      if (resource === undefined || owned === undefined) continue;
      const message = `${textOf(held.entry, claim)} belongs to ${formatResourceId(resourceId(owned))} already`;
      problems.error({ resource, path: pathOf(held.entry, index) }, message, 'remove it from one of the two');
    }
    checked.add(held);
  }
}

/** A claim in the words of its document. */
function textOf(entry: RegistryEntry, claim: string): string {
  return entry.kind === 'workload' && claim.includes('/') ? `${entry.netns} on ${entry.node}` : claim;
}

function pathOf(entry: RegistryEntry, index: number): PropertyKey[] {
  if (entry.kind === 'service') return ['spec', 'vips', index];
  return index < entry.addresses.length ? ['spec', 'addresses', index] : ['spec', 'netns'];
}

function checkPolicies(written: readonly HeldEntry[], { rivals }: RuleDependencies, problems: ProblemList): void {
  const byNamespace = new Map<string, WorkloadEntry[]>();
  for (const { entry } of written) {
    if (entry.kind !== 'workload' || !rivals.has(entry.namespace)) continue;
    byNamespace.set(entry.namespace, [...(byNamespace.get(entry.namespace) ?? []), entry]);
  }
  for (const [namespace, workloads] of byNamespace) checkSelected(rivals.get(namespace) ?? [], workloads, problems);
}

/** Services that changed, and services that lost an endpoint because a workload changed or was removed. */
function concernedServices(inventory: Inventory, { published }: AppliedChange): Set<Service> {
  const services = new Set<Service>();
  const serviceOf = (key: string): Service | null => {
    const resource = inventory.documents.get(key)?.document?.resource;
    return resource?.kind === 'Service' ? resource : null;
  };
  for (const [key, before] of published) {
    const changed = serviceOf(key);
    if (changed !== null) services.add(changed);
    if (before?.entry.kind !== 'workload') continue;
    const { namespace, labels } = before.entry;
    const after = inventory.registry.published.get(key)?.entry;
    if (after?.kind === 'workload' && isDeepStrictEqual(after.labels, labels)) continue;
    // Whether a service has an endpoint left may take a look at the whole namespace.
    for (const name of inventory.registry.registered.servicesIn(namespace)) {
      const service = serviceOf(`service.${namespace}.${name}`);
      if (service === null) continue;
      if (selects({ namespace, selector: service.spec.selector }, before.entry)) services.add(service);
    }
  }
  return services;
}

/** Names that existed before the change and do not exist any more, as {@link nameKey}. */
function lostNames(inventory: Inventory, { published }: AppliedChange): string[] {
  const { registered } = inventory.registry;
  const lost = new Set<string>();
  for (const before of published.values()) {
    if (before === undefined) continue;
    const { kind, namespace, name } = before.entry;
    const own = `${namespace}/${name}`;
    if (kind === 'service') {
      if (!registered.has('service', own)) lost.add(nameKey('service', own));
      continue;
    }
    const account = `${namespace}/${before.entry.serviceAccount}`;
    if (!registered.has('workload', own)) lost.add(nameKey('workload', own));
    if (!registered.has('service account', account)) lost.add(nameKey('service account', account));
  }
  return [...lost];
}
