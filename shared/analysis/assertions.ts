import type { Clock, Decision, RuleRef } from '../policy/connection.js';
import { formatRuleRef } from '../policy/connection.js';
import type { FoundEnd } from './find-ends.js';
import { findEnds } from './find-ends.js';
import { predict } from './predict.js';
import type { RuleSet } from './rule-set.js';

/** What decides: a tier of SegmentationRules, or the step of another kind of rule. */
export const assertionTiers = ['platform', 'team', 'authorization', 'networkPolicy', 'baseline', 'default'] as const;
export type AssertionTier = (typeof assertionTiers)[number];

/** One sentence that must be true of a set of rules. */
export type Assertion = {
  /** A workload, a service account or an address; see {@link findEnds}. */
  readonly from: string;
  /** A workload, a service, a service account or an address, with the port: `billing/db:5432`. */
  readonly to: string;
  readonly expect: 'allow' | 'deny';
  /** The rule that must be the one that decides: `db-only`, `AuthorizationPolicy/billing/api` or `Mesh/default`. */
  readonly by?: string | undefined;
  readonly tier?: AssertionTier | undefined;
  /** RFC 3339: when the connection is made; for rules with a validity. Now when it is left out. */
  readonly at?: string | undefined;
};

export type FoundVerdict = {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly verdict: Decision['verdict'];
  readonly reason: Decision['reason'];
  readonly rule: RuleRef;
};

export type AssertionResult = {
  readonly assertion: Assertion;
  readonly isPassed: boolean;
  /** Why it failed, in one sentence; null when it passed. */
  readonly failure: string | null;
  /** What the rules say: of the first connection that contradicts, else of the first. Null when there is none. */
  readonly found: FoundVerdict | null;
  /** What the person should know though it passed, such as a name that nothing has. */
  readonly note: string | null;
};

/**
 * Asks the one evaluator each sentence. A name that stands for several workloads or addresses must hold for every
 * combination. Nothing is thrown for an assertion that cannot be asked: it fails and says why.
 */
export function runAssertions(
  input: RuleSet & { readonly assertions: readonly Assertion[]; readonly clock: Clock },
): AssertionResult[] {
  return input.assertions.map((assertion) => runAssertion(assertion, input, input.clock));
}

function runAssertion(assertion: Assertion, set: RuleSet, clock: Clock): AssertionResult {
  const failed = (failure: string): AssertionResult => ({
    assertion,
    isPassed: false,
    failure,
    found: null,
    note: null,
  });
  const at = assertion.at === undefined ? null : Date.parse(assertion.at);
  if (Number.isNaN(at)) return failed(`"${assertion.at ?? ''}" is not a time (for example 2027-01-31T00:00:00Z)`);
  const sources = findEnds(assertion.from, 'source', set);
  if ('problem' in sources) return failed(`${sources.problem} (${sources.hint})`);
  const destinations = findEnds(assertion.to, 'destination', set);
  if ('problem' in destinations) return failed(`${destinations.problem} (${destinations.hint})`);

  const note = [sources.note, destinations.note].filter((text) => text !== null).join('; ') || null;
  const time: Clock = at === null ? clock : { nowMs: () => at };
  let first: FoundVerdict | null = null;
  for (const { source, destination, port } of combinations(sources.ends, destinations.ends)) {
    if (port === null) return failed(`destination "${assertion.to}" has no port (write it as ${assertion.to}:5432)`);
    const { verdict, reason, rule } = predict(
      set.snapshot,
      { source: source.end, destination: destination.end, port },
      time,
    );
    const found = { source: source.end.name, destination: destination.end.name, port, verdict, reason, rule };
    const failure = contradiction(assertion, found);
    if (failure !== null) return { assertion, isPassed: false, failure, found, note };
    first ??= found;
  }
  if (first === null) return failed('source and destination have no address of the same family');
  return { assertion, isPassed: true, failure: null, found: first, note };
}

/** Every pair whose addresses can talk to each other. */
function* combinations(sources: readonly FoundEnd[], destinations: readonly FoundEnd[]) {
  for (const source of sources) {
    for (const destination of destinations) {
      const canTalk = isV6(source) === isV6(destination) || source.isAssumed || destination.isAssumed;
      if (canTalk) yield { source, destination, port: destination.port };
    }
  }
}

function isV6({ end }: FoundEnd): boolean {
  return end.party.ip.includes(':');
}

function contradiction({ expect, by, tier }: Assertion, found: FoundVerdict): string | null {
  const rule = formatRuleRef(found.rule);
  const who = `${found.source} to ${found.destination}:${found.port}`;
  if (found.verdict !== expect) return `${who} should be ${pastOf(expect)}, but ${rule} ${presentOf(found.verdict)} it`;
  if (by !== undefined && by !== rule && by !== found.rule.name) {
    return `${who} is ${pastOf(expect)}, but by ${rule} and not by ${by}`;
  }
  const foundTier = tierOf(found.rule);
  if (tier !== undefined && tier !== foundTier) {
    return `${who} is ${pastOf(expect)}, but by ${rule} in the step ${foundTier} and not in ${tier}`;
  }
  return null;
}

export function tierOf({ kind, tier }: RuleRef): AssertionTier {
  switch (kind) {
    case 'SegmentationRule':
      return tier ?? 'team';
    case 'AuthorizationPolicy':
      return 'authorization';
    case 'Mesh':
      return 'default';
    default:
      return 'networkPolicy';
  }
}

function pastOf(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? 'allowed' : 'denied';
}

function presentOf(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? 'allows' : 'denies';
}
