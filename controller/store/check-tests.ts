import { runRuleTests } from '../analysis/tests/rule-tests.js';
import type { RuleSet } from '../analysis/pairs/rule-set.js';
import type { Inventory } from '../inventory/inventory.js';
import type { AppliedChange } from '../inventory/merged-registry.js';
import { isBreakGlass } from '../resources/kinds/break-glass.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { SegmentationRule } from '../resources/kinds/segmentation-rule.js';
import { prepareSnapshot } from '../../shared/policy/prepared/prepared-snapshot.js';
import { registryKey, type RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { resourcesOf, type Commit } from '../release/committed-state.js';
import { partiesOf, ruleDependencies } from './rule-dependencies.js';

/**
 * Runs the `tests` of all rules on the state after a change. A failing test is an error. It is only a warning when it also
 * failed before and the change does not touch its rule: otherwise a rule that has expired would block every other change.
 * It is also only a warning when its rule is of a lower tier than all of the change: a team has no veto over what precedes it.
 */
export function checkTests(init: {
  readonly before: TestedSet;
  readonly after: TestedSet;
  readonly commit: Commit;
  readonly locations: ReadonlyMap<string, ResourceLocation>;
  readonly nowMs: number;
}): Problem[] {
  const { before, after, commit, locations, nowMs } = init;
  const found = failingTests(after, nowMs, locations, before.release);
  const written = new Set(commit.puts.map(({ resource }) => formatResourceId(resourceId(resource))));
  const judged = softened(found, written, () => failingTests(before, nowMs));
  return isOfPlatform(commit, before.release, after.release) ? withoutVeto(judged, after.release) : judged;
}

/** The rules and the registry that tests run on. */
export type TestedSet = { readonly release: CompiledRevision; readonly entries: readonly RegistryEntry[] };

export function hasTests({ state }: CompiledRevision): boolean {
  for (const { resource } of state.resources.values()) {
    if (resource.kind === 'SegmentationRule' && resource.spec.tests !== undefined) return true;
  }
  return false;
}

/** Errors: failing tests. Warnings: tests with unknown names. `previous`: a similar revision, to prepare this one faster. */
export function failingTests(
  { release, entries }: TestedSet,
  nowMs: number,
  locations: ReadonlyMap<string, ResourceLocation> = new Map(),
  previous: CompiledRevision | null = null,
): Problem[] {
  const resources = resourcesOf(release.state).filter(
    (resource) => resource.kind === 'SegmentationRule' && resource.spec.tests !== undefined,
  );
  if (resources.length === 0) return [];
  prepareSnapshot(release.snapshot, previous?.snapshot ?? null);
  return run({ snapshot: release.snapshot, entries }, resources, nowMs, locations);
}

/**
 * The same for workloads and services just applied to the inventory. Runs only the tests that name one of their namespaces
 * or addresses, on the entries of the namespaces that those tests name.
 */
export function checkInventoryTests(init: {
  readonly inventory: Inventory;
  readonly applied: AppliedChange;
  readonly release: CompiledRevision;
  readonly nowMs: number;
}): Problem[] {
  const { inventory, applied, release, nowMs } = init;
  const resources = concernedRules(init);
  if (resources.length === 0) return [];
  const { snapshot } = release;
  prepareSnapshot(snapshot, null);
  const after = namedEntries(inventory, resources);
  const found = run({ snapshot, entries: after }, resources, nowMs);
  return softened(found, new Set(), () => {
    const rest = after.filter((entry) => !applied.published.has(registryKey(entry)));
    const replaced = [...applied.published.values()].flatMap((before) => before?.entry ?? []);
    return run({ snapshot, entries: [...rest, ...replaced] }, resources, nowMs);
  });
}

function concernedRules({
  inventory,
  applied,
  release,
}: {
  readonly inventory: Inventory;
  readonly applied: AppliedChange;
  readonly release: CompiledRevision;
}): SegmentationRule[] {
  const { testedNamespaces, testedAddresses } = ruleDependencies(release);
  if (testedNamespaces.size === 0 && testedAddresses.size === 0) return [];
  const rules = new Set<SegmentationRule>();
  for (const [key, before] of applied.published) {
    for (const entry of [before?.entry, inventory.registry.published.get(key)?.entry]) {
      if (entry === undefined) continue;
      const addresses = entry.kind === 'service' ? entry.vips : entry.addresses;
      for (const rule of testedNamespaces.get(entry.namespace) ?? []) rules.add(rule);
      for (const ip of addresses) for (const rule of testedAddresses.get(ip) ?? []) rules.add(rule);
    }
  }
  for (const rule of endpointRules(inventory, applied, testedAddresses)) rules.add(rule);
  return [...rules];
}

/** Rules with tests that name the address of a service whose endpoints may have changed. */
function* endpointRules(
  inventory: Inventory,
  applied: AppliedChange,
  testedAddresses: ReturnType<typeof ruleDependencies>['testedAddresses'],
): Generator<SegmentationRule> {
  if (testedAddresses.size === 0) return;
  const namespaces = new Set<string>();
  for (const [key, before] of applied.published) {
    const entry = before?.entry ?? inventory.registry.published.get(key)?.entry;
    if (entry !== undefined) namespaces.add(entry.namespace);
  }
  for (const [ip, rules] of testedAddresses) {
    const owner = inventory.registry.ownerOf(ip)?.entry;
    if (owner?.kind === 'service' && namespaces.has(owner.namespace)) yield* rules;
  }
}

/** All entries of the namespaces that tests name, directly or through an address. */
function namedEntries(inventory: Inventory, rules: readonly SegmentationRule[]): RegistryEntry[] {
  const { published, registered, ownerOf } = lookups(inventory);
  const namespaces = new Set<string>();
  for (const rule of rules) {
    const parties = partiesOf(rule);
    for (const namespace of parties.namespaces) namespaces.add(namespace);
    for (const ip of parties.addresses) {
      const owner = ownerOf(ip)?.entry;
      if (owner !== undefined) namespaces.add(owner.namespace);
    }
  }
  const keys: string[] = [];
  for (const namespace of namespaces) {
    for (const name of registered.servicesIn(namespace)) keys.push(`service.${namespace}.${name}`);
    for (const { name } of registered.workloadsIn(namespace)) keys.push(`workload.${namespace}.${name}`);
  }
  return keys.sort().flatMap((key) => published.get(key)?.entry ?? []);
}

function lookups({ registry }: Inventory) {
  return {
    published: registry.published,
    registered: registry.registered,
    ownerOf: (ip: string) => registry.ownerOf(ip),
  };
}

function run(
  set: RuleSet,
  resources: readonly Resource[],
  nowMs: number,
  locations: ReadonlyMap<string, ResourceLocation> = new Map(),
): Problem[] {
  return runRuleTests({ ...set, resources, locations, clock: { nowMs: () => nowMs } });
}

/** Turns errors into warnings for tests that also failed before and whose rule is not in the change. */
function softened(found: Problem[], written: ReadonlySet<string>, failedBefore: () => readonly Problem[]): Problem[] {
  if (!found.some(({ severity }) => severity === 'error')) return found;
  const old = new Set(
    failedBefore()
      .filter(({ severity }) => severity === 'error')
      .map(placeOf),
  );
  return found.map((problem) => {
    const isOld = old.has(placeOf(problem)) && !written.has(problem.resource ?? '');
    return problem.severity === 'error' && isOld
      ? { ...problem, severity: 'warning', message: `${problem.message} (before this change too)` }
      : problem;
  });
}

/** Whether a change is of nothing but rules of the tier platform, and of what is about the whole mesh. */
function isOfPlatform(
  { puts, deletes, inventory }: Commit,
  { state: before }: CompiledRevision,
  { snapshot: { mesh } }: CompiledRevision,
): boolean {
  const replaced = [...puts.map(({ key }) => key), ...deletes].flatMap((key) => before.resources.get(key) ?? []);
  return (
    inventory === undefined &&
    [...puts, ...replaced].every(({ resource }) => {
      if (resource.kind === 'SegmentationRule') return resource.spec.tier === 'platform';
      const { namespace } = resourceId(resource);
      return namespace === null || namespace === mesh.rootNamespace || resource.kind === 'ServiceEntry';
    })
  );
}

/** Turns errors into warnings for tests of rules that are not of the tier platform, or only as an emergency. */
function withoutVeto(found: readonly Problem[], { state }: CompiledRevision): Problem[] {
  const ofPlatform = new Set<string>();
  for (const { resource } of state.resources.values()) {
    // The right to break glass alone gives no veto either.
    if (resource.kind !== 'SegmentationRule' || resource.spec.tier !== 'platform' || isBreakGlass(resource)) continue;
    ofPlatform.add(formatResourceId(resourceId(resource)));
  }
  return found.map((problem) =>
    problem.severity === 'error' && !ofPlatform.has(problem.resource ?? '')
      ? { ...problem, severity: 'warning', message: `${problem.message} (the change is of a higher tier)` }
      : problem,
  );
}

function placeOf({ resource, path }: Problem): string {
  return `${resource ?? ''} ${path}`;
}
