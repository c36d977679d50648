import { formatRuleRef, type Clock, type Decision, type RuleName } from '../../../shared/policy/connection.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { predict, type PredictedConnection } from './predict.js';

/** What an agent for the source would change. */
export type MissingProof = {
  readonly verdict: Decision['verdict'];
  /** The rule that would decide. */
  readonly rule: RuleName;
};

/**
 * Whether it decides that the source is registered but has no agent, and so proves no identity: the other verdict would
 * follow from a proof. Null: it does not. `decided`: the verdict without the proof. Kubernetes goes by the address, so
 * this is where a NetworkPolicy can mean less here than there.
 */
export function missingProof(
  snapshot: Snapshot,
  pair: PredictedConnection,
  clock: Clock,
  decided: Decision['verdict'],
): MissingProof | null {
  const { source } = pair;
  if (source.isMeshed || source.party.workload === null) return null;
  const { verdict, rule } = predict(snapshot, { ...pair, source: { ...source, isMeshed: true } }, clock);
  return verdict === decided ? null : { verdict, rule: formatRuleRef(rule) };
}

/** One sentence without its full stop. */
export function missingProofText(name: string, { verdict, rule }: MissingProof): string {
  return `${name} has no agent and proves no identity; with one, ${rule} would ${verdict} it`;
}

export const missingProofHint = 'give the Workload a node with an agent, and a netns';
