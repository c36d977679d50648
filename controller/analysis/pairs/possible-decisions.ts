import type { Clock, Decision } from '../../../shared/policy/connection.js';
import { plainSnapshot, type CompiledRule, type Snapshot } from '../../../shared/policy/snapshot.js';
import { predict, type PredictedConnection } from './predict.js';

/** With more rules than this, only two cases are considered: all enforced, or none. */
const maxRules = 5;

/**
 * All possible decisions for a connection. There is exactly one unless the source stands for many addresses and a
 * matching rule is partly rolled out. Each address is then included or not, so there is one decision for each
 * combination.
 */
export function possibleDecisions(snapshot: Snapshot, pair: PredictedConnection, clock: Clock): readonly Decision[] {
  const partial = pair.source.standsForMany === true ? partialRules(snapshot) : [];
  const matching = partial.filter((rule) => matches(rule, snapshot, pair, clock));
  if (matching.length === 0) return [predict(snapshot, pair, clock)];
  const combinations = matching.length <= maxRules ? subsets(matching) : [[], matching];
  return combinations.map((enforced) => predict(withEnforced(snapshot, enforced), pair, clock));
}

const partialOf = new WeakMap<Snapshot, readonly CompiledRule[]>();

function partialRules(snapshot: Snapshot): readonly CompiledRule[] {
  let partial = partialOf.get(snapshot);
  if (partial === undefined) {
    partial = snapshot.rules.filter(({ mode, rollout }) => mode === 'enforce' && rollout > 0 && rollout < 100);
    partialOf.set(snapshot, partial);
  }
  return partial;
}

/** Evaluates a set with only this rule, changed to allow where it would pass. */
function matches(rule: CompiledRule, snapshot: Snapshot, pair: PredictedConnection, clock: Clock): boolean {
  const alone = variantOf(snapshot, `only ${rule.name}`, () => {
    const action = rule.action === 'pass' ? 'allow' : rule.action;
    const other = action === 'allow' ? 'deny' : 'allow';
    const mesh = { ...snapshot.mesh, mtls: 'PERMISSIVE', defaultAction: other, outbound: other } as const;
    const { externals, namespaces } = snapshot;
    const rules = [{ ...rule, action, rollout: 100 }];
    return { ...snapshot, ...plainSnapshot, externals, namespaces, authorizationPolicies: [], mesh, rules };
  });
  const { kind, name } = predict(alone, pair, clock).rule;
  return kind === 'SegmentationRule' && name === rule.name;
}

function withEnforced(snapshot: Snapshot, enforced: readonly CompiledRule[]): Snapshot {
  return variantOf(snapshot, `with ${enforced.map(({ name }) => name).join(' ')}`, () => {
    const partial = partialRules(snapshot);
    const rules = snapshot.rules.map((rule) =>
      partial.includes(rule) ? { ...rule, rollout: enforced.includes(rule) ? 100 : 0 } : rule,
    );
    return { ...snapshot, rules };
  });
}

const variantsOf = new WeakMap<Snapshot, Map<string, Snapshot>>();

/** Cached, because the evaluator prepares each snapshot object once. */
function variantOf(snapshot: Snapshot, key: string, make: () => Snapshot): Snapshot {
  const variants = variantsOf.get(snapshot) ?? new Map<string, Snapshot>();
  variantsOf.set(snapshot, variants);
  let variant = variants.get(key);
  if (variant === undefined) variants.set(key, (variant = make()));
  return variant;
}

function subsets<T>(values: readonly T[]): T[][] {
  return values.reduce<T[][]>((sets, value) => [...sets, ...sets.map((set) => [...set, value])], [[]]);
}
