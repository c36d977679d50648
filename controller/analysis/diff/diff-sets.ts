import type { Clock } from '../../../shared/policy/connection.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import { diffFlows, type FlowDiff } from '../flows/diff-flows.js';
import { diffPairs, type PairDiff } from './diff-pairs.js';
import { diffTraffic, type TrafficChange } from './diff-traffic.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** What a proposed set of rules would change. */
export type SetDiff = {
  readonly pairs: PairDiff;
  /** Null: no flow records were given. */
  readonly flows: FlowDiff | null;
  /** Recorded clients that documents about traffic would lead elsewhere; null as for `flows`. */
  readonly traffic: readonly TrafficChange[] | null;
  /** A connection that was seen working would be denied, or led to where nothing serves; a gate should refuse such a change. */
  readonly wouldBreak: boolean;
};

/** Compares two sets of rules over their registries and, if there are flow records, over recorded traffic. */
export function diffSets(input: {
  readonly before: RuleSet;
  readonly after: RuleSet;
  readonly flows: readonly FlowRecord[] | null;
  readonly clock: Clock;
}): SetDiff {
  const { before, after, flows, clock } = input;
  const pairs = diffPairs({ before, after, clock });
  const ofFlows = flows === null ? null : diffFlows({ before, after, flows, clock });
  const traffic = flows === null ? null : diffTraffic({ before, after, flows, clock });
  const isBroken = (ofFlows?.broken.length ?? 0) > 0 || (traffic ?? []).some((change) => change.isBroken);
  return { pairs, flows: ofFlows, traffic, wouldBreak: isBroken };
}
