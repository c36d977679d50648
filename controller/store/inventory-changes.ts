import { isDeepStrictEqual } from 'node:util';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Inventory, ChangeVerdict } from '../inventory/inventory.js';
import { documentsSource } from '../inventory/inventory-source.js';
import type { AppliedChange } from '../inventory/merged-registry.js';
import type { InventoryPublication } from '../publish/inventory-publication.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { ResourceId } from '../resources/kinds/resource-key.js';
import { checkInventory } from './check-inventory.js';
import { checkInventoryTests } from './check-tests.js';
import type { Author } from './plan-change.js';
import { planInventoryApply, planInventoryDelete, type InventoryPlan } from './plan-inventory.js';
import type { ChangeOutcome } from './change-outcome.js';
import { nameKey, ruleDependencies } from './rule-dependencies.js';

type Made = { readonly outcome: ChangeOutcome | 'needs a revision' | undefined; readonly sequence: number | null };

/**
 * Changes of workloads and services alone: no revision, no snapshot of rules, and work for what changes and no more. Each
 * is checked with the rules in force and their tests, and answered when it is on disk and NATS has it.
 *
 * One case is left to the rules: a service that they name, with another selector. They have to be compiled then, so it
 * costs a revision, and the answer is `needs a revision`.
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

  /** Errors: `JOURNAL_WRITE`, `PAYLOAD_TOO_LARGE` (nothing was changed), `PUBLISH_PENDING` (it has happened). */
  async apply(o: {
    readonly parsed: ParsedDocuments;
    readonly author: Author;
    readonly dryRun: boolean;
  }): Promise<ChangeOutcome | 'needs a revision'> {
    const { parsed, author, dryRun } = o;
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
    const outcome = await this.#make(plan, { locations, dryRun });
    if (outcome === undefined) throw new Error('an apply always has a plan');
    return outcome;
  }

  /** Undefined when there is no such document. Errors as in {@link apply}. */
  delete(id: ResourceId): Promise<ChangeOutcome | 'needs a revision' | undefined> {
    return this.#make(() => planInventoryDelete(this.#inventory, id), { locations: new Map(), dryRun: false });
  }

  async #make(
    makePlan: () => InventoryPlan | undefined,
    o: { readonly locations: ParsedDocuments['locations']; readonly dryRun: boolean },
  ): Promise<ChangeOutcome | 'needs a revision' | undefined> {
    let plan: InventoryPlan | undefined;
    const change = () => {
      plan = makePlan();
      return plan?.change ?? { upserts: [], removals: [] };
    };
    const judge = (applied: AppliedChange): ChangeVerdict<Made> => {
      if (plan === undefined) return { isKept: false, value: { outcome: undefined, sequence: null } };
      const outcome = this.#judge(plan, applied, o.locations);
      const isKept = !o.dryRun && typeof outcome === 'object' && outcome.ok && applied.held.size > 0;
      return { isKept, value: { outcome, sequence: isKept ? this.#inventory.sequence : null } };
    };
    const made = o.dryRun
      ? await this.#inventory.exclusively((turn) => Promise.resolve(turn.preview(change(), judge).value))
      : await this.#inventory.change(documentsSource, change, judge);
    const { outcome, sequence } = made;
    if (sequence === null || typeof outcome !== 'object' || !outcome.ok) return outcome;
    await this.#publication.reached(sequence).catch((cause: unknown) => {
      throw pending(sequence, cause);
    });
    return { ...outcome, inventory: { ...outcome.inventory, sequence } };
  }

  #judge(
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

/** Of those that came, went or select others, as in {@link nameKey}. */
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
    message: `the change is stored as ${sequence} of the inventory, but NATS did not take it: ${describeError(cause)}`,
    hint: 'it is published as soon as NATS answers; look at culvert status',
    cause,
  });
}
