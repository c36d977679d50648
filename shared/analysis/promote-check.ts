import type { Clock } from '../policy/connection.js';
import type { Snapshot } from '../policy/snapshot.js';
import type { FlowRecord } from '../wire/flows.js';
import { auditReport, type AuditedPair } from './audit-report.js';
import { diffFlows, type FlowChange, type UnknownFlow } from './diff-flows.js';
import type { RuleSet } from './rule-set.js';

export type PromoteCheck =
  | { readonly kind: 'no such rule' }
  /** It is enforced already, for every source. */
  | { readonly kind: 'enforced' }
  | {
      readonly kind: 'checked';
      /** Nothing that was seen in the window would break. */
      readonly isSafe: boolean;
      /** What worked, and the rule would deny. */
      readonly broken: readonly FlowChange[];
      /** What cannot be told, although the rule was recorded as one that would have denied it. */
      readonly doubtful: readonly UnknownFlow[];
      /** What else cannot be told. It does not stand in the way. */
      readonly unknown: readonly UnknownFlow[];
      /** What the agents recorded: connections that the rule, as it was then, would have denied. */
      readonly recorded: readonly AuditedPair[];
      /** Records of the window. With none there is no evidence at all. */
      readonly records: number;
    };

/** Whether a rule that is audited, or enforced for a part of the sources, may be enforced for all. */
export function promoteCheck(
  input: RuleSet & {
    /** The name of the SegmentationRule. */
    readonly rule: string;
    readonly flows: readonly FlowRecord[];
    /** Records that were last seen before are ignored. */
    readonly sinceMs: number;
    readonly clock: Clock;
  },
): PromoteCheck {
  const { snapshot, entries, rule, sinceMs, clock } = input;
  const found = snapshot.rules.find(({ name }) => name === rule);
  if (found === undefined) return { kind: 'no such rule' };
  if (found.mode === 'enforce' && found.rollout >= 100) return { kind: 'enforced' };
  const flows = input.flows.filter(({ lastSeenMs }) => lastSeenMs >= sinceMs);
  const promoted = { snapshot: withPromoted(snapshot, rule), entries };
  const { broken, unknown } = diffFlows({ before: { snapshot, entries }, after: promoted, flows, clock });
  const ref = `SegmentationRule/${rule}`;
  const recorded = auditReport({ flows }).find((audited) => audited.rule === ref)?.pairs ?? [];
  const denied = new Set(recorded.map(pairKey));
  const doubtful = unknown.filter((flow) => denied.has(pairKey(flow)));
  return {
    kind: 'checked',
    isSafe: broken.length === 0 && doubtful.length === 0,
    broken,
    doubtful,
    unknown: unknown.filter((flow) => !denied.has(pairKey(flow))),
    recorded,
    records: flows.length,
  };
}

function withPromoted(snapshot: Snapshot, name: string): Snapshot {
  const rules = snapshot.rules.map((rule) =>
    rule.name === name ? ({ ...rule, mode: 'enforce', rollout: 100 } as const) : rule,
  );
  return { ...snapshot, rules };
}

function pairKey({ source, destination, port }: Pick<AuditedPair, 'source' | 'destination' | 'port'>): string {
  return `${source} ${destination} ${port}`;
}
