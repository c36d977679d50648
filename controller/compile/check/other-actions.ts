import type { CompiledRule } from '../../../shared/policy/snapshot.js';
import type { OpenRule } from '../segment-members.js';
import { OverlapIndex } from './overlap-index.js';
import { requirementsOfRule } from './requirements.js';

/** Rules by action, to be compared with those that act differently. */
export class OtherActions {
  readonly #byAction: readonly { readonly action: CompiledRule['action']; readonly index: OverlapIndex }[];

  constructor({ rules }: { readonly rules: readonly OpenRule[] }) {
    const actions = [...new Set(rules.map(({ action }) => action))];
    this.#byAction = actions.map((action) => {
      const items = [...rules.entries()].filter(([, rule]) => rule.action === action);
      return { action, index: new OverlapIndex({ items: items.map(([at, rule]) => [at, requirementsOfRule(rule)]) }) };
    });
  }

  /** The positions of those that may match a connection that this rule matches, in ascending order. */
  mayOverlap(rule: OpenRule): number[] {
    const required = requirementsOfRule(rule);
    return this.#byAction
      .filter(({ action }) => action !== rule.action)
      .flatMap(({ index }) => index.candidates(required))
      .sort((a, b) => a - b);
  }
}
