import type { CompiledRule } from './snapshot.js';
import { isRolledOut } from './rollout.js';

/**
 * What a matching rule does now for this source: it decides (`enforced`), is only counted (`audited`), would decide if
 * it had not expired (`expired`), or does nothing.
 */
export type RuleEffect = 'enforced' | 'audited' | 'expired' | 'none';

export function ruleEffect(rule: CompiledRule, rolloutKey: string, nowMs: number): RuleEffect {
  const { mode, rollout, validFromMs, expiresAtMs, name } = rule;
  const isEnforced = mode === 'enforce' && (rollout >= 100 || isRolledOut(rolloutKey, name, rollout));
  if (validFromMs !== null && nowMs < validFromMs) return 'none';
  if (expiresAtMs !== null && nowMs >= expiresAtMs) return isEnforced ? 'expired' : 'none';
  return isEnforced ? 'enforced' : 'audited';
}
