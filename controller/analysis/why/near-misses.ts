import type { Clock, Connection, Decision, RuleName } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { changesOf, partyName, type FactChange } from './fact-changes.js';

/** One changed fact that would reverse the decision. */
export type NearMiss = {
  readonly side: 'source' | 'destination' | 'connection';
  /** `service account`, `label app`, `port`, … */
  readonly fact: string;
  /** Null: it has none. */
  readonly is: string | null;
  readonly wouldBe: string;
  /** The decision after the change, and the rule that makes it. */
  readonly verdict: Decision['verdict'];
  readonly rule: RuleName;
  /** "billing/db would allow it if the source's service account were billing/api (SegmentationRule/db-only)". */
  readonly text: string;
};

const maxNearMisses = 5;
/** Limit on changes that are evaluated; a mesh may have thousands of rules. */
const maxAsked = 400;

/**
 * The smallest changes of one fact that would reverse the decision, from the rules nearest to matching. Each was
 * verified with the evaluator. The smallest change comes first.
 */
export function nearMisses(snapshot: Snapshot, connection: Connection, clock: Clock): NearMiss[] {
  const { verdict } = evaluate(snapshot, connection, clock);
  const found: { change: FactChange; decision: Decision }[] = [];
  for (const change of changesOf(snapshot, connection, verdict, clock.nowMs()).slice(0, maxAsked)) {
    const time: Clock = change.atMs === null ? clock : { nowMs: () => change.atMs ?? 0 };
    const decision = evaluate(snapshot, change.connection, time);
    if (decision.verdict !== verdict) found.push({ change, decision });
    if (found.length >= maxNearMisses) break;
  }
  return found.map(({ change, decision }) => describe(change, decision, connection));
}

function describe({ side, fact, is, wouldBe }: FactChange, decision: Decision, connection: Connection): NearMiss {
  const rule = formatRuleRef(decision.rule);
  const owner = side === 'connection' ? 'the' : `the ${side}'s`;
  const condition = fact === 'time' ? `at ${wouldBe}` : `if ${owner} ${fact} were ${wouldBe}`;
  const text = `${partyName(connection.destination)} would ${decision.verdict} it ${condition} (${rule})`;
  return { side, fact, is, wouldBe, verdict: decision.verdict, rule, text };
}
