import { inTurns } from '../../shared/in-turns.js';
import type { Inventory } from '../inventory/inventory.js';
import { registeredServices } from '../inventory/registered-services.js';
import type { SourceChange } from '../inventory/inventory-source.js';
import type { CompiledRevision, RevisionCompiler } from '../release/compiled-revision.js';
import { applyCommit, resourcesOf, type Commit, type CommittedState } from '../release/committed-state.js';
import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import { formatResourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import { planningCluster, type ClusterRequest } from './cluster-change.js';
import { deletedInCluster, ownedByCluster, takenByDocuments, targetOfRollback } from './cluster-owned.js';
import { checkInventory } from './check-inventory.js';
import { checkTests, hasTests } from './check-tests.js';
import { lostByDeletion, lostWithLabels } from './lost-by-deletion.js';
import {
  nextCommit,
  planningApply,
  planningDelete,
  type Among,
  type Author,
  type CompiledChange,
  type Plan,
} from './plan-change.js';
import {
  planInventoryApply,
  planInventoryDelete,
  splitExisting,
  splitResources,
  type Deletion,
  type InventoryPlan,
} from './plan-inventory.js';
import { planningRollback } from './plan-rollback.js';
import { dependenciesAmong, ruleDependencies, type RuleDependencies } from './rule-dependencies.js';
import type { InventoryReading } from './worked-out.js';

/** What a change does to the rules and to the inventory. */
export type WholePlan = { readonly rules: Plan; readonly inventory: InventoryPlan | null };

/** Of checks and of compiling each. A set of 10,000 rules takes a few seconds. */
const budgetMs = 60_000;

const noChange: SourceChange = { upserts: [], removals: [] };

/** Plans and checks changes of rules, together with what they do to the inventory. Changes nothing. */
export class ChangePlanner {
  readonly #inventory: Inventory;
  readonly #builder: RevisionCompiler;
  readonly #trustDomain: string;
  readonly #hasCluster: boolean;
  readonly #nowMs: () => number;

  constructor(init: {
    readonly inventory: Inventory;
    readonly builder: RevisionCompiler;
    readonly trustDomain: string;
    /** False: what was a custom resource once is a document like any other. */
    readonly hasCluster: boolean;
    readonly nowMs: () => number;
  }) {
    this.#inventory = init.inventory;
    this.#builder = init.builder;
    this.#trustDomain = init.trustDomain;
    this.#hasCluster = init.hasCluster;
    this.#nowMs = init.nowMs;
  }

  async apply(
    reading: InventoryReading,
    present: CompiledRevision,
    parsed: ParsedDocuments,
    author: Author,
  ): Promise<WholePlan> {
    const { locations } = parsed;
    const { rules: resources, inventory: registered } = splitResources(parsed.resources);
    const planned = planInventoryApply({
      inventory: this.#inventory,
      trustDomain: this.#trustDomain,
      resources: registered,
      locations,
      author,
    });
    const among = this.#among(reading, planned.change);
    const owned = this.#hasCluster ? ownedByCluster(present.state, resources, locations) : [];
    const asked = { ...parsed, resources, problems: [...parsed.problems, ...owned] };
    const rules = await inTurns(planningApply(present.state, asked, author, among), { budgetMs });
    const dependencies = ruleDependencies(present);
    return { rules: this.#withInventory(reading, dependencies, rules, planned, locations), inventory: planned };
  }

  async rollback(
    reading: InventoryReading,
    present: CompiledRevision,
    target: CommittedState,
    author: Author,
  ): Promise<WholePlan> {
    const own = this.#hasCluster ? targetOfRollback(present.state, target) : { target, problems: [] };
    if (own.problems.length > 0) return { rules: { ok: false, problems: own.problems }, inventory: null };
    const planning = planningRollback(present.state, own.target, author, this.#among(reading, noChange));
    return { rules: await inTurns(planning, { budgetMs }), inventory: null };
  }

  /** Plans to delete documents, all or none of them; undefined when one does not exist and has to. */
  async delete(
    reading: InventoryReading,
    present: CompiledRevision,
    { ids, onMissing }: Deletion,
    author: Author,
  ): Promise<WholePlan | undefined> {
    const { rules, registered, missing } = splitExisting(ids, present.state, this.#inventory);
    if (missing.length > 0 && onMissing?.(missing) !== true) return undefined;
    const owned = this.#hasCluster ? deletedInCluster(present.state, rules) : [];
    if (owned.length > 0) return { rules: { ok: false, problems: owned }, inventory: null };
    const inventory = planInventoryDelete(registered);
    const planning = planningDelete(present.state, rules, author, this.#among(reading, inventory.change));
    const planned = await inTurns(planning, { budgetMs });
    const plan = this.#withLostLabels(reading, present, planned, { rules, change: inventory.change });
    if (registered.length === 0) return { rules: plan, inventory: null };
    return { rules: this.#withInventory(reading, remaining(present, rules), plan, inventory, new Map()), inventory };
  }

  /**
   * Plans, checks and compiles a part of what a cluster asks for. What documents have is a problem of its own. Errors:
   * `PAYLOAD_TOO_LARGE`, `TOO_MUCH_WORK`, and the reason of the request's signal.
   */
  async fromCluster(
    reading: InventoryReading,
    present: CompiledRevision,
    request: ClusterRequest,
    {
      author,
      ...limits
    }: { readonly author: Author; readonly budgetMs: number; readonly signal?: AbortSignal | undefined },
  ): Promise<CompiledChange> {
    const taken = takenByDocuments(present.state, request.puts);
    if (taken.length > 0) return { problems: taken };
    const planning = planningCluster(present.state, request, author, this.#among(reading, noChange));
    const rules = await inTurns(planning, limits);
    return this.compile(reading, present, { rules, inventory: null }, author, limits);
  }

  /** Compiles the rules of a plan and runs their tests. */
  async compile(
    reading: InventoryReading,
    present: CompiledRevision,
    { rules, inventory }: WholePlan,
    author: Author,
    limits: Parameters<typeof inTurns>[1] = { budgetMs },
  ): Promise<CompiledChange> {
    if (!rules.ok) return rules;
    const { change = noChange, documents } = inventory ?? {};
    const isInventorySame = change.upserts.length + change.removals.length === 0;
    if (rules.commit === null && isInventorySame) return { commit: null, warnings: rules.warnings };
    const part = isInventorySame || documents === undefined ? {} : { inventory: documents };
    const commit: Commit = { ...(rules.commit ?? nextCommit(present.state, author)), ...part };
    const { services } = this.#among(reading, change);
    const built = await inTurns(this.#builder.building(applyCommit(present.state, commit), services), limits);
    if ('problems' in built) return built;
    const { release } = built;
    const tested = this.#test(reading, change, { present, release, commit, locations: rules.locations });
    const lost =
      change.removals.length === 0
        ? []
        : reading.preview(change, (applied) =>
            lostByDeletion({ inventory: this.#inventory, release, applied, warnings: rules.warnings }),
          );
    const warnings = [...rules.warnings, ...lost, ...tested];
    if (tested.some(({ severity }) => severity === 'error')) return { problems: warnings };
    return { commit, release, warnings };
  }

  /** Warns of rules that select workloads by the labels of deleted Namespaces, when both stay. */
  #withLostLabels(
    reading: InventoryReading,
    present: CompiledRevision,
    plan: Plan,
    { rules, change }: { readonly rules: readonly ResourceId[]; readonly change: SourceChange },
  ): Plan {
    const namespaces = rules.filter(({ kind }) => kind === 'Namespace');
    if (!plan.ok || namespaces.length === 0) return plan;
    const gone = new Set(rules.map(formatResourceId));
    const lost = reading.preview(change, () =>
      namespaces.flatMap((id) => lostWithLabels(this.#inventory, present, { id, gone })),
    );
    return { ...plan, warnings: [...plan.warnings, ...lost] };
  }

  #test(
    reading: InventoryReading,
    change: SourceChange,
    {
      present,
      release,
      commit,
      locations,
    }: {
      readonly present: CompiledRevision;
      readonly release: CompiledRevision;
      readonly commit: Commit;
      readonly locations: ParsedDocuments['locations'];
    },
  ): Problem[] {
    if (!hasTests(release)) return [];
    const before = { release: present, entries: this.#inventory.entries };
    return reading.preview(change, () => {
      const after = { release, entries: this.#inventory.entries };
      return checkTests({ before, after, commit, locations, nowMs: this.#nowMs() });
    });
  }

  #withInventory(
    reading: InventoryReading,
    rules: RuleDependencies,
    plan: Plan,
    { change, problems: unreadable }: InventoryPlan,
    locations: ParsedDocuments['locations'],
  ): Plan {
    const checked = reading.preview(change, (applied) =>
      checkInventory({ inventory: this.#inventory, applied, rules, locations }),
    );
    const found = [...unreadable, ...checked];
    if (!plan.ok) return { ok: false, problems: [...plan.problems, ...found] };
    if (found.some(({ severity }) => severity === 'error')) {
      return { ok: false, problems: [...found, ...plan.warnings] };
    }
    const places = new Set(found.map(placeOf));
    return { ...plan, warnings: [...plan.warnings.filter((problem) => !places.has(placeOf(problem))), ...found] };
  }

  /** The services and registry entries to check rules against, as they are after the change. */
  #among(reading: InventoryReading, change: SourceChange): Among {
    const { registry } = this.#inventory;
    return {
      services: reading.preview(change, () => registeredServices(registry.published.values())),
      among: (check) => reading.preview(change, () => check(registry.registered)),
      trustDomain: this.#trustDomain,
    };
  }
}

/** What the rules depend on once these documents are gone. */
function remaining(present: CompiledRevision, gone: readonly ResourceId[]): RuleDependencies {
  if (gone.length === 0) return ruleDependencies(present);
  const keys = new Set(gone.map(resourceIdKey));
  const rest = resourcesOf(present.state).filter((resource) => !keys.has(resourceKey(resource)));
  return dependenciesAmong(rest, present.snapshot.trustDomain);
}

/** The check of the inventory says more of the same place: what the change does there. */
function placeOf({ resource, path }: Problem): string {
  return `${resource ?? ''} ${path}`;
}
