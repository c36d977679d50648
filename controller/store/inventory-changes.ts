import { isDeepStrictEqual } from 'node:util';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Inventory, ChangeVerdict } from '../inventory/inventory.js';
import { documentsSource } from '../inventory/inventory-source.js';
import type { AppliedChange } from '../inventory/merged-registry.js';
import type { InventoryPublication } from '../publish/inventory-publication.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import { checkInventory } from './check-inventory.js';
import { checkInventoryTests } from './check-tests.js';
import type { Author } from './plan-change.js';
import { lostByDeletion } from './lost-by-deletion.js';
import { planInventoryApply, planInventoryDelete, splitExisting, type InventoryPlan } from './plan-inventory.js';
import type { ChangeOutcome } from './change-outcome.js';
import { changedEntries, type Begin, type Permit } from './changed-documents.js';
import { nameKey, ruleDependencies } from './rule-dependencies.js';
import type { DeleteRequest } from './store-requests.js';

type Made = { readonly outcome: ChangeOutcome | 'needs a revision' | undefined; readonly sequence: number | null };

/**
 * Changes that concern only workloads and services. They need no revision and no snapshot, and cost only what they touch.
 * Each is checked against the rules in force and their tests. The answer is sent when the change is on disk and in NATS.
 *
 * The exception is a new selector for a service that rules name: the rules must be compiled again, which takes a revision.
 * Then the outcome is `needs a revision`, and nothing was changed.
 */
export class InventoryChanges {
  readonly #inventory: Inventory;
  readonly #publication: InventoryPublication;
  readonly #release: () => CompiledRevision;
  readonly #nowMs: () => number;
  readonly #trustDomain: string;

  constructor(init: {
    readonly inventory: Inventory;
    readonly publication: InventoryPublication;
    readonly release: () => CompiledRevision;
    readonly nowMs: () => number;
    readonly trustDomain: string;
  }) {
    this.#inventory = init.inventory;
    this.#publication = init.publication;
    this.#release = init.release;
    this.#nowMs = init.nowMs;
    this.#trustDomain = init.trustDomain;
  }

  /** Errors: `JOURNAL_WRITE`, `PAYLOAD_TOO_LARGE` (nothing was changed), `PUBLISH_PENDING` (the change was made). */
  async apply(init: {
    readonly parsed: ParsedDocuments;
    readonly author: Author;
    readonly dryRun: boolean;
    readonly permit?: Permit;
    readonly begin?: Begin;
  }): Promise<ChangeOutcome | 'needs a revision'> {
    const { parsed, author } = init;
    const { resources, locations } = parsed;
    const plan = (): InventoryPlan => {
      const { problems, ...planned } = planInventoryApply({
        inventory: this.#inventory,
        trustDomain: this.#trustDomain,
        resources,
        locations,
        author,
      });
      return { ...planned, problems: [...parsed.problems, ...problems] };
    };
    const outcome = await this.#make(plan, { ...init, locations });
    if (outcome === undefined) throw new Error('an apply always has a plan');
    return outcome;
  }

  /**
   * All or none of the documents. Undefined when one does not exist and has to; `needs a revision` also when rules are among
   * them. Errors as in {@link apply}.
   */
  async delete(request: DeleteRequest): Promise<ChangeOutcome | 'needs a revision' | undefined> {
    const { ids, onMissing } = request;
    const found = { hasRules: false };
    const plan = (): InventoryPlan | undefined => {
      const { rules, registered, missing } = splitExisting(ids, this.#release().state, this.#inventory);
      found.hasRules = rules.length > 0;
      if (found.hasRules || (missing.length > 0 && onMissing?.(missing) !== true)) return undefined;
      return planInventoryDelete(registered);
    };
    const outcome = await this.#make(plan, { ...request, locations: new Map(), isDeletion: true });
    return found.hasRules ? 'needs a revision' : outcome;
  }

  async #make(
    makePlan: () => InventoryPlan | undefined,
    {
      locations,
      dryRun,
      permit,
      begin,
      isDeletion = false,
    }: {
      readonly locations: ParsedDocuments['locations'];
      readonly dryRun: boolean;
      readonly permit?: Permit;
      readonly begin?: Begin;
      readonly isDeletion?: boolean;
    },
  ): Promise<ChangeOutcome | 'needs a revision' | undefined> {
    let plan: InventoryPlan | undefined;
    const change = () => {
      plan = makePlan();
      if (plan !== undefined) permit?.(changedEntries(this.#inventory, plan), this.#nowMs());
      return plan?.change ?? { upserts: [], removals: [] };
    };
    const judge = (applied: AppliedChange): ChangeVerdict<Made> => {
      if (plan === undefined) return { isKept: false, value: { outcome: undefined, sequence: null } };
      const checked = this.#check(plan, applied, locations);
      const outcome = isDeletion ? this.#withLost(checked, applied) : checked;
      const isKept = !dryRun && typeof outcome === 'object' && outcome.ok && applied.held.size > 0;
      const value = { outcome, sequence: isKept ? this.#inventory.sequence : null };
      return { isKept, value, ...(begin === undefined ? {} : { begin }) };
    };
    const made = dryRun
      ? await this.#inventory.exclusively((turn) => Promise.resolve(turn.preview(change(), judge).value))
      : await this.#inventory.change(documentsSource, change, judge);
    const { outcome, sequence } = made;
    if (sequence === null || typeof outcome !== 'object' || !outcome.ok) return outcome;
    await this.#publication.reached(sequence).catch((cause: unknown) => {
      throw pending(sequence, cause);
    });
    return { ...outcome, inventory: { ...outcome.inventory, sequence } };
  }

  /** Says what applied to a workload that is deleted. */
  #withLost(outcome: ChangeOutcome | 'needs a revision', applied: AppliedChange): typeof outcome {
    if (typeof outcome === 'string' || !outcome.ok) return outcome;
    const { warnings } = outcome;
    const lost = lostByDeletion({ inventory: this.#inventory, release: this.#release(), applied, warnings });
    return { ...outcome, warnings: [...warnings, ...lost] };
  }

  #check(
    { changes, problems: unreadable }: InventoryPlan,
    applied: AppliedChange,
    locations: ParsedDocuments['locations'],
  ): ChangeOutcome | 'needs a revision' {
    const release = this.#release();
    const inventory = this.#inventory;
    const rules = ruleDependencies(release);
    const problems: Problem[] = [...unreadable, ...checkInventory({ inventory, applied, rules, locations })];
    if (hasError(problems)) return { ok: false, problems };
    for (const key of changedServices(inventory, applied)) if (rules.naming.has(key)) return 'needs a revision';
    const tested = checkInventoryTests({ inventory, applied, release, nowMs: this.#nowMs() });
    const warnings = [...problems, ...tested];
    if (hasError(tested)) return { ok: false, problems: warnings };
    return {
      ok: true,
      revision: release.state.revision,
      inventory: { sequence: inventory.sequence, changes: applied.held.size },
      changes,
      warnings,
    };
  }
}

/** Services that were added, removed or have a new selector, as {@link nameKey}. */
function changedServices(inventory: Inventory, { published }: Pick<AppliedChange, 'published'>): string[] {
  const changed: string[] = [];
  for (const [key, before] of published) {
    if (!key.startsWith('service.')) continue;
    const after = inventory.registry.published.get(key);
    const entry = after?.entry ?? before?.entry;
    if (entry === undefined || isDeepStrictEqual(selectorOf(before), selectorOf(after))) continue;
    changed.push(nameKey('service', `${entry.namespace}/${entry.name}`));
  }
  return changed;
}

function selectorOf(published: { readonly entry: object } | undefined): unknown {
  return published === undefined ? undefined : (published.entry as { readonly selector?: unknown }).selector;
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}

function pending(sequence: number, cause: unknown): CulvertError {
  return new CulvertError({
    code: 'PUBLISH_PENDING',
    message: `the change is stored as ${sequence} of the inventory, but could not be written to NATS: ${describeError(cause)}`,
    hint: 'it is published as soon as NATS answers; look at culvert status',
    cause,
  });
}
