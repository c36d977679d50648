import { assertNever } from '../../../shared/assert-never.js';
import type { Clock, Decision, RuleRef } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import { parseInstant } from '../../resources/kinds/instant.js';
import type { RuleTest, testTiers } from '../../resources/kinds/rule-test.js';
import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { FoundParty } from './find-parties.js';
import { findEnds } from './find-parties.js';
import { missingProof, missingProofHint, missingProofText } from '../pairs/missing-proof.js';
import { areOneWorkload } from '../../../shared/policy/own-traffic.js';
import { predict, type PredictedConnection } from '../pairs/predict.js';
import type { RuleSet } from '../pairs/rule-set.js';

type TestTier = (typeof testTiers)[number];

export type FoundVerdict = {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly verdict: Decision['verdict'];
  readonly reason: Decision['reason'];
  readonly rule: RuleRef;
  /** The step that decided: a tier, or the step of another kind. */
  readonly tier: TestTier;
};

export type AssertionResult = {
  readonly assertion: RuleTest;
  readonly isPassed: boolean;
  /** Why it failed, in one sentence; null when it passed. */
  readonly failure: string | null;
  /**
   * The decision for the first connection that contradicts, else for the first connection. Null: there is no
   * connection.
   */
  readonly found: FoundVerdict | null;
  /** Hints although it passed, such as a name that does not exist. */
  readonly note: string | null;
  /** Why a source without an agent decides: it proves no identity. Null: a proof would change nothing. */
  readonly unproved: string | null;
};

/**
 * Evaluates each assertion. An assertion about a name with several workloads or addresses must hold for every
 * combination. One that cannot be evaluated fails with a reason; nothing is thrown.
 */
export function runAssertions(
  input: RuleSet & { readonly assertions: readonly RuleTest[]; readonly clock: Clock },
): AssertionResult[] {
  return input.assertions.map((assertion) => runAssertion(assertion, input, input.clock));
}

function runAssertion(assertion: RuleTest, set: RuleSet, clock: Clock): AssertionResult {
  const failed = (failure: string): AssertionResult => ({
    assertion,
    isPassed: false,
    failure,
    found: null,
    note: null,
    unproved: null,
  });
  const at = assertion.at === undefined ? null : parseInstant(assertion.at);
  if (at === undefined) return failed(`"${assertion.at ?? ''}" is not a time (for example 2027-01-31T00:00:00Z)`);
  const sources = findEnds(assertion.from, 'source', set);
  if ('problem' in sources) return failed(`${sources.problem} (${sources.hint})`);
  const destinations = findEnds(assertion.to, 'destination', set);
  if ('problem' in destinations) return failed(`${destinations.problem} (${destinations.hint})`);

  const names = [sources.note, destinations.note].filter((text) => text !== null).join('; ') || null;
  let unproved: string | null = null;
  const time: Clock = at === null ? clock : { nowMs: () => at };
  let first: FoundVerdict | null = null;
  for (const { source, destination, port } of combinations(sources.ends, destinations.ends)) {
    if (port === null) return failed(`destination "${assertion.to}" has no port (write it as ${assertion.to}:5432)`);
    const pair = { source: source.end, destination: destination.end, port };
    const decision = predict(set.snapshot, pair, time);
    const { verdict, reason, rule } = decision;
    const tier = decidingTier(decision, pair, set.snapshot);
    const found = { source: source.end.name, destination: destination.end.name, port, verdict, reason, rule, tier };
    const missing = missingProof(set.snapshot, pair, time, verdict);
    if (missing !== null) unproved ??= `${missingProofText(source.end.name, missing)} (${missingProofHint})`;
    const failure = contradiction(assertion, found, set.snapshot);
    if (failure !== null) return { assertion, isPassed: false, failure, found, note: names, unproved };
    first ??= found;
  }
  if (first === null) return failed('source and destination have no address of the same family');
  return { assertion, isPassed: true, failure: null, found: first, note: names, unproved };
}

type Combination = { readonly source: FoundParty; readonly destination: FoundParty; readonly port: number | null };

/**
 * Every pair in which the source has an address of the family that it dials. Between names that several workloads have,
 * pairs of different workloads are meant: what one sends to itself is left out unless there is nothing else.
 */
function combinations(sources: readonly FoundParty[], destinations: readonly FoundParty[]): Combination[] {
  const pairs = sources.flatMap((source) =>
    destinations
      .filter((destination) => isV6(source) === isV6(destination) || source.isAssumed || destination.isAssumed)
      .filter(({ isFor }) => isFor === undefined || isLed(source, isFor))
      .map((destination) => ({ source, destination: asAnother(destination, source), port: destination.port })),
  );
  const others = pairs.filter(({ source, destination }) => !areOneWorkload(source.end.party, destination.end.party));
  return others.length > 0 ? others : pairs;
}

/** Routes are for workloads of the mesh. */
function isLed({ end }: FoundParty, isFor: NonNullable<FoundParty['isFor']>): boolean {
  const { workload } = end.party;
  return workload !== null && isFor(workload);
}

/** A name that nothing has stands for an account, whose workloads are many: the two ends are never the same one. */
function asAnother(destination: FoundParty, source: FoundParty): FoundParty {
  const { party } = destination.end;
  if (!destination.isAssumed || party.workload === null) return destination;
  if (!areOneWorkload(source.end.party, party)) return destination;
  const workload = { ...party.workload, name: `${party.workload.name}-other` };
  return { ...destination, end: { ...destination.end, party: { ...party, workload } } };
}

function isV6({ dialled }: FoundParty): boolean {
  return dialled.includes(':');
}

function contradiction({ expect, by, tier }: RuleTest, found: FoundVerdict, snapshot: Snapshot): string | null {
  const rule = formatRuleRef(found.rule);
  const who = `${found.source} to ${found.destination}:${found.port}`;
  if (found.verdict !== expect && found.reason === 'POLICY_EXPIRED') {
    const { expiresAtMs } = snapshot.rules.find(({ name }) => name === found.rule.name) ?? { expiresAtMs: null };
    const when = expiresAtMs === null ? '' : ` at ${new Date(expiresAtMs).toISOString()}`;
    return `${who} should be ${pastOf(expect)}, but ${rule}, which allowed it, expired${when}`;
  }
  if (found.verdict !== expect) return `${who} should be ${pastOf(expect)}, but ${rule} ${presentOf(found.verdict)} it`;
  if (by !== undefined && by !== rule && by !== found.rule.name) {
    return `${who} is ${pastOf(expect)}, but by ${rule} and not by ${by}`;
  }
  if (tier !== undefined && tier !== found.tier) {
    return `${who} is ${pastOf(expect)}, but by ${rule} in the step ${found.tier} and not in ${tier}`;
  }
  return null;
}

function decidingTier({ rule, reason }: Decision, pair: PredictedConnection, snapshot: Snapshot): TestTier {
  switch (rule.kind) {
    case 'SegmentationRule':
      return rule.tier ?? 'team';
    case 'AuthorizationPolicy':
      return 'authorization';
    case 'NetworkPolicy':
      return 'networkPolicy';
    case 'ClusterNetworkPolicy':
    case 'AdminNetworkPolicy':
    case 'BaselineAdminNetworkPolicy':
      return rule.tier ?? 'platform';
    case 'PeerAuthentication':
      return 'mtls';
    case 'Mesh': {
      if (reason === 'SOURCE_UNKNOWN') return 'mtls';
      // A trace would show this too, but evaluates every rule.
      const { facts } = prepareSnapshot(snapshot).destination(pair.destination.party, pair.port);
      return facts.isExternal ? 'outbound' : 'default';
    }
    default:
      return assertNever(rule.kind);
  }
}

function pastOf(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? 'allowed' : 'denied';
}

function presentOf(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? 'allows' : 'denies';
}
