import { inTurns } from '../../shared/in-turns.js';
import type { Inventory } from '../inventory/inventory.js';
import type { InventoryTurn } from '../inventory/inventory-turn.js';
import { registeredServices } from '../inventory/registered-services.js';
import type { SourceChange } from '../inventory/inventory-source.js';
import type { CompiledRevision, RevisionCompiler } from '../release/compiled-revision.js';
import { applyCommit, type Commit, type CommittedState } from '../release/committed-state.js';
import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { ResourceId } from '../resources/kinds/resource-key.js';
import { checkInventory } from './check-inventory.js';
import { checkTests, hasTests } from './check-tests.js';
import { lostWithLabels } from './lost-by-deletion.js';
import { nextCommit, planningApply, planningDelete, type Among, type Author, type Plan } from './plan-change.js';
import { planInventoryApply, planInventoryDelete, splitResources, type InventoryPlan } from './plan-inventory.js';
import { planningRollback } from './plan-rollback.js';
import { ruleDependencies } from './rule-dependencies.js';

/** What a change does to the rules and to the inventory. */
export type WholePlan = { readonly rules: Plan; readonly inventory: InventoryPlan | null };

/** A checked change. `commit` is null when it changes nothing. */
export type CompiledChange =
  | { readonly problems: readonly Problem[] }
  | { readonly commit: null; readonly warnings: readonly Problem[] }
  | { readonly commit: Commit; readonly release: CompiledRevision; readonly warnings: readonly Problem[] };

/** Of checks and of compiling each. A set of 10,000 rules takes a few seconds. */
const budgetMs = 60_000;

const noChange: SourceChange = { upserts: [], removals: [] };

/** Plans and checks changes of rules, together with what they do to the inventory. Changes nothing. */
export class ChangePlanner {
  readonly #inventory: Inventory;
  readonly #builder: RevisionCompiler;
  readonly #trustDomain: string;
  readonly #nowMs: () => number;

  constructor(init: {
    readonly inventory: Inventory;
    readonly builder: RevisionCompiler;
    readonly trustDomain: string;
    readonly nowMs: () => number;
  }) {
    this.#inventory = init.inventory;
    this.#builder = init.builder;
    this.#trustDomain = init.trustDomain;
    this.#nowMs = init.nowMs;
  }

  async apply(
    turn: InventoryTurn,
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
    const among = this.#among(turn, planned.change);
    const rules = await inTurns(planningApply(present.state, { ...parsed, resources }, author, among), { budgetMs });
    return { rules: this.#withInventory(turn, present, rules, planned, locations), inventory: planned };
  }

  async rollback(
    turn: InventoryTurn,
    present: CompiledRevision,
    target: CommittedState,
    author: Author,
  ): Promise<WholePlan> {
    const planning = planningRollback(present.state, target, author, this.#among(turn, noChange));
    return { rules: await inTurns(planning, { budgetMs }), inventory: null };
  }

  /** Plans to delete a rule document; undefined when it does not exist. */
  async delete(
    turn: InventoryTurn,
    present: CompiledRevision,
    id: ResourceId,
    author: Author,
  ): Promise<WholePlan | undefined> {
    const planning = planningDelete(present.state, id, author, this.#among(turn, noChange));
    const plan = await inTurns(planning, { budgetMs });
    if (plan === undefined) return undefined;
    const lost = plan.ok && id.kind === 'Namespace' ? lostWithLabels(this.#inventory, present, id) : [];
    const rules = plan.ok ? { ...plan, warnings: [...plan.warnings, ...lost] } : plan;
    return { rules, inventory: null };
  }

  /** Plans to delete a service that rules name, which changes their meaning; undefined when it does not exist. */
  deleteService(turn: InventoryTurn, present: CompiledRevision, id: ResourceId, author: Author): WholePlan | undefined {
    const inventory = planInventoryDelete(this.#inventory, id);
    if (inventory === undefined) return undefined;
    const commit = nextCommit(present.state, author);
    const rules: Plan = { ok: true, changes: [], warnings: [], commit, locations: new Map() };
    return { rules: this.#withInventory(turn, present, rules, inventory, new Map()), inventory };
  }

  /** Compiles the rules of a plan and runs their tests. */
  async compile(
    turn: InventoryTurn,
    present: CompiledRevision,
    { rules, inventory }: WholePlan,
    author: Author,
  ): Promise<CompiledChange> {
    if (!rules.ok) return rules;
    const { change = noChange, documents } = inventory ?? {};
    const isInventorySame = change.upserts.length + change.removals.length === 0;
    if (rules.commit === null && isInventorySame) return { commit: null, warnings: rules.warnings };
    const part = isInventorySame || documents === undefined ? {} : { inventory: documents };
    const commit: Commit = { ...(rules.commit ?? nextCommit(present.state, author)), ...part };
    const { services } = this.#among(turn, change);
    const built = await inTurns(this.#builder.building(applyCommit(present.state, commit), services), { budgetMs });
    if ('problems' in built) return built;
    const { release } = built;
    const tested = this.#test(turn, change, { present, release, commit, locations: rules.locations });
    const warnings = [...rules.warnings, ...tested];
    if (tested.some(({ severity }) => severity === 'error')) return { problems: warnings };
    return { commit, release, warnings };
  }

  #test(
    turn: InventoryTurn,
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
    return turn.preview(change, () => {
      const after = { release, entries: this.#inventory.entries };
      return checkTests({ before, after, commit, locations, nowMs: this.#nowMs() });
    });
  }

  #withInventory(
    turn: InventoryTurn,
    present: CompiledRevision,
    plan: Plan,
    { change, problems: unreadable }: InventoryPlan,
    locations: ParsedDocuments['locations'],
  ): Plan {
    const rules = ruleDependencies(present);
    const checked = turn.preview(change, (applied) =>
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
  #among(turn: InventoryTurn, change: SourceChange): Among {
    const { registry } = this.#inventory;
    return {
      services: turn.preview(change, () => registeredServices(registry.published.values())),
      among: (check) => turn.preview(change, () => check(registry.registered)),
      trustDomain: this.#trustDomain,
    };
  }
}

/** The check of the inventory says more of the same place: what the change does there. */
function placeOf({ resource, path }: Problem): string {
  return `${resource ?? ''} ${path}`;
}
