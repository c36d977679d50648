import { commonConnection } from './common-connection.js';
import { NamedAddresses } from './named-addresses.js';
import { NamespaceIndex } from './namespace-index.js';
import type { CompiledExternal, CompiledRule } from '../../../shared/policy/snapshot.js';

/** Two rules of the same tier and priority that would decide one connection differently. */
export type AmbiguousRules = {
  readonly first: string;
  readonly second: string;
  /** A connection that both rules match, in words. */
  readonly example: string;
};

/** A longer report would not help. */
const maxReported = 50;

/**
 * Finds rules whose order matters but is not given: same tier and priority, different actions, and a connection and a
 * time at which both decide. Rules that decide nothing are not compared: those of mode audit, with rollout 0, or
 * expired at `nowMs`.
 */
export function findAmbiguousRules(
  rules: readonly CompiledRule[],
  { nowMs = Number.NEGATIVE_INFINITY, externals = [] }: AmbiguityOptions = {},
): AmbiguousRules[] {
  const found: AmbiguousRules[] = [];
  const named = new NamedAddresses({ externals });
  const outside = JSON.stringify(externals);
  const isSameOutside = outside === lastOutside;
  const deciding = rules.filter(
    ({ mode, rollout, expiresAtMs }) =>
      mode === 'enforce' && rollout > 0 && (expiresAtMs === null || expiresAtMs > nowMs),
  );
  for (const group of groupsOfEqualRank(deciding)) {
    if (group.every(({ action }) => action === group[0]?.action)) continue;
    const isFresh = group.map((rule) => !lastClean.has(rule) || (!isSameOutside && isAboutOutside(rule)));
    if (!isFresh.includes(true)) continue;
    const index = new NamespaceIndex({ rules: group });
    for (const [position, rule] of group.entries()) {
      if (isFresh[position] !== true) continue;
      for (const at of index.mayOverlap(position)) {
        const other = group[at];
        // Two new rules were already compared when the earlier one was visited.
        if (other === undefined || other.action === rule.action || (at < position && isFresh[at] === true)) continue;
        const [first, second] = at < position ? [other, rule] : [rule, other];
        const example = exampleOfBoth(first, second, named);
        if (example === undefined) continue;
        found.push({ first: first.name, second: second.name, example });
        if (found.length >= maxReported) return found;
      }
    }
  }
  if (found.length === 0) {
    lastClean = new Set(deciding);
    lastOutside = outside;
  }
  return found;
}

export type AmbiguityOptions = {
  readonly nowMs?: number;
  /** The ServiceEntries: what they name is not external. */
  readonly externals?: readonly CompiledExternal[];
};

/**
 * The rules of the last set without a conflict, which need not be compared with each other again. The passage of time
 * only removes rules from the comparison.
 */
let lastClean: ReadonlySet<CompiledRule> = new Set();
/** The ServiceEntries at that time as text. Others can change what is external. */
let lastOutside = '';

function isAboutOutside({ from, to }: CompiledRule): boolean {
  return [...from, ...to].some(({ external }) => external === true);
}

function groupsOfEqualRank(rules: readonly CompiledRule[]): CompiledRule[][] {
  const groups = new Map<string, CompiledRule[]>();
  for (const rule of rules) {
    const rank = `${rule.tier} ${rule.priority}`;
    const group = groups.get(rank);
    if (group === undefined) groups.set(rank, [rule]);
    else group.push(rule);
  }
  return [...groups.values()];
}

function exampleOfBoth(a: CompiledRule, b: CompiledRule, named: NamedAddresses): string | undefined {
  const time = commonTime(a, b);
  const both = time === undefined ? undefined : commonConnection(a, b, named);
  return both === undefined ? undefined : `from ${both.from} to ${both.to}, ${both.ports}${time ?? ''}`;
}

/** Undefined: the two are never in force at the same time. */
function commonTime(a: CompiledRule, b: CompiledRule): string | undefined {
  const fromMs = Math.max(a.validFromMs ?? Number.NEGATIVE_INFINITY, b.validFromMs ?? Number.NEGATIVE_INFINITY);
  const untilMs = Math.min(a.expiresAtMs ?? Number.POSITIVE_INFINITY, b.expiresAtMs ?? Number.POSITIVE_INFINITY);
  if (fromMs >= untilMs) return undefined;
  const from = Number.isFinite(fromMs) ? ` from ${new Date(fromMs).toISOString()}` : '';
  const until = Number.isFinite(untilMs) ? ` until ${new Date(untilMs).toISOString()}` : '';
  return from === '' && until === '' ? '' : `,${from}${until}`;
}
