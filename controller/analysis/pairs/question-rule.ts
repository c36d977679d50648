import { plainRule, type CompiledRule } from '../../../shared/policy/snapshot.js';

/** The evaluator is asked a question by a rule that nobody wrote: it allows everything, but for what `part` says. */
export function questionRule(part: Partial<CompiledRule>): CompiledRule {
  return {
    name: 'x',
    // All of one tier, so that positions stay as they are.
    tier: 'platform',
    priority: 0,
    action: 'allow',
    mode: 'enforce',
    from: [],
    to: [],
    ports: [],
    ...plainRule,
    ...part,
  };
}
