import type { Problem } from '../resources/kinds/problem.js';
import type { WholePlan } from './change-planner.js';
import type { ResourceChange } from './history.js';

/** What a change did to the inventory. */
export type InventoryOutcome = {
  /** The sequence after the change; the present one when nothing changed or it was a dry run. */
  readonly sequence: number;
  /** Documents of workloads and services that the change created, configured or deleted. */
  readonly changes: number;
};

export type ChangeOutcome =
  | { readonly ok: false; readonly problems: readonly Problem[] }
  | {
      readonly ok: true;
      /** The revision after the change; the present one when nothing changed or it was a dry run. */
      readonly revision: number;
      readonly inventory: InventoryOutcome;
      readonly changes: readonly ResourceChange[];
      readonly warnings: readonly Problem[];
    };

/** What a change that was made, or tried, comes to. `state`: afterwards. */
export function outcomeOf(
  { rules, inventory }: WholePlan,
  warnings: readonly Problem[],
  state: { readonly revision: number; readonly sequence: number },
): ChangeOutcome {
  const ofInventory = inventory?.changes ?? [];
  return {
    ok: true,
    revision: state.revision,
    inventory: {
      sequence: state.sequence,
      changes: ofInventory.filter(({ change }) => change !== 'unchanged').length,
    },
    changes: [...ofInventory, ...(rules.ok ? rules.changes : [])],
    warnings,
  };
}
