import { atOnce } from '../../../shared/in-turns.js';
import { commonConnection } from './common-connection.js';
import { NamedAddresses } from './named-addresses.js';
import { OtherActions } from './other-actions.js';
import { SegmentMembers, type OpenRule } from '../segment-members.js';
import type { CompiledExternal, CompiledRule, CompiledSegment } from '../../../shared/policy/snapshot.js';

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
export function findAmbiguousRules(rules: readonly CompiledRule[], options: AmbiguityOptions = {}): AmbiguousRules[] {
  return atOnce(findingAmbiguousRules(rules, options));
}

/** {@link findAmbiguousRules} in steps, a comparison each. */
export function* findingAmbiguousRules(
  rules: readonly CompiledRule[],
  { nowMs = Number.NEGATIVE_INFINITY, externals = [], segments = [] }: AmbiguityOptions = {},
): Generator<void, AmbiguousRules[]> {
  const found: AmbiguousRules[] = [];
  const named = new NamedAddresses({ externals });
  const members = new SegmentMembers({ segments });
  const outside = JSON.stringify(externals);
  const isSameOutside = outside === lastOutside;
  const deciding = rules.filter(
    ({ mode, rollout, expiresAtMs }) =>
      mode === 'enforce' && rollout > 0 && (expiresAtMs === null || expiresAtMs > nowMs),
  );
  for (const group of groupsOfEqualRank(deciding)) {
    if (group.every(({ action }) => action === group[0]?.action)) continue;
    const isFresh = group.map((rule) => {
      const isKnown = lastClean.has(rule) && isMadeOf(rule, members, lastSegments);
      return !isKnown || (!isSameOutside && isAboutOutside(rule, members));
    });
    if (!isFresh.includes(true)) continue;
    const open = group.map((rule) => members.open(rule));
    yield;
    const others = new OtherActions({ rules: open });
    for (const [position, rule] of open.entries()) {
      if (isFresh[position] !== true) continue;
      yield;
      for (const at of others.mayOverlap(rule)) {
        const other = open[at];
        // Two new rules were already compared when the earlier one was visited.
        if (other === undefined || (at < position && isFresh[at] === true)) continue;
        const [first, second] = at < position ? [other, rule] : [rule, other];
        const example = exampleOfBoth(first, second, named);
        yield;
        if (example === undefined) continue;
        found.push({ first: first.name, second: second.name, example });
        if (found.length >= maxReported) return found;
      }
    }
  }
  if (found.length === 0) {
    lastClean = new Set(deciding);
    lastSegments = new Set(segments);
    lastOutside = outside;
  }
  return found;
}

export type AmbiguityOptions = {
  readonly nowMs?: number;
  /** The ServiceEntries whose addresses are not external: `meshWideExternals`. */
  readonly externals?: readonly CompiledExternal[];
  /** Those that the rules refer to. */
  readonly segments?: readonly CompiledSegment[];
};

/**
 * The rules of the last set without a conflict, which need not be compared with each other again. The passage of time
 * only removes rules from the comparison.
 */
let lastClean: ReadonlySet<CompiledRule> = new Set();
/** The segments at that time. */
let lastSegments: ReadonlySet<CompiledSegment> = new Set();
/** The ServiceEntries at that time as text. Others can change what is external. */
let lastOutside = '';

function isMadeOf({ from, to }: CompiledRule, members: SegmentMembers, known: ReadonlySet<CompiledSegment>): boolean {
  return [...members.within(from), ...members.within(to)].every((segment) => known.has(segment));
}

function isAboutOutside({ from, to }: CompiledRule, members: SegmentMembers): boolean {
  return [...members.matchesOf(from), ...members.matchesOf(to)].some(({ external }) => external === true);
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

function exampleOfBoth(a: OpenRule, b: OpenRule, named: NamedAddresses): string | undefined {
  const time = commonTime(a, b);
  const both = time === undefined ? undefined : commonConnection(a, b, named);
  return both === undefined ? undefined : `from ${both.from} to ${both.to}, ${both.ports}${time ?? ''}`;
}

/** Undefined: the two are never in force at the same time. */
function commonTime(a: OpenRule, b: OpenRule): string | undefined {
  const fromMs = Math.max(a.validFromMs ?? Number.NEGATIVE_INFINITY, b.validFromMs ?? Number.NEGATIVE_INFINITY);
  const untilMs = Math.min(a.expiresAtMs ?? Number.POSITIVE_INFINITY, b.expiresAtMs ?? Number.POSITIVE_INFINITY);
  if (fromMs >= untilMs) return undefined;
  const from = Number.isFinite(fromMs) ? ` from ${new Date(fromMs).toISOString()}` : '';
  const until = Number.isFinite(untilMs) ? ` until ${new Date(untilMs).toISOString()}` : '';
  return from === '' && until === '' ? '' : `,${from}${until}`;
}
