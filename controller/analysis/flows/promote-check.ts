import type { Clock } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { CompiledRule, Snapshot } from '../../../shared/policy/snapshot.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import { auditReport, type AuditedPair } from './audit-report.js';
import { conversations } from './conversations.js';
import { diffFlows, type FlowChange, type UnknownFlow } from './diff-flows.js';
import { Replay } from './replay.js';
import type { RuleSet } from '../pairs/rule-set.js';

export type PromoteCheck =
  | { readonly kind: 'no such rule'; readonly rule: string }
  /** All of the rules are already enforced for every source. */
  | { readonly kind: 'enforced' }
  | {
      readonly kind: 'checked';
      /** No connection seen in the window would break. */
      readonly isSafe: boolean;
      /** Connections that worked and that the rules would deny. */
      readonly broken: readonly FlowChange[];
      /**
       * Other audited rules that would keep some of these connections working. While they were audited, no such
       * connection was counted as denied. If they are enforced together with these rules, less breaks.
       */
      readonly together: readonly string[];
      /** Conversations with an unknown result for which one of the rules was recorded as one that would have denied. */
      readonly doubtful: readonly UnknownFlow[];
      /** Other conversations with an unknown result. They do not block the promotion. */
      readonly unknown: readonly UnknownFlow[];
      /** Recorded connections that the rules, as they were then, would have denied. */
      readonly recorded: readonly AuditedPair[];
      /** The number of records in the window. Without any there is no evidence. */
      readonly records: number;
    };

/**
 * Checks whether rules that are audited, or enforced for a part of the sources, can be enforced for all sources in one
 * change.
 */
export function promoteCheck(
  input: RuleSet & {
    /** The names of SegmentationRules. */
    readonly rules: readonly string[];
    readonly flows: readonly FlowRecord[];
    /** Records last seen before this time are ignored. */
    readonly sinceMs: number;
    readonly clock: Clock;
  },
): PromoteCheck {
  const { snapshot, entries, sinceMs, clock } = input;
  const names = new Set(input.rules);
  const promoted = snapshot.rules.filter(({ name }) => names.has(name));
  for (const { name } of promoted) names.delete(name);
  const [unknownName] = names;
  if (unknownName !== undefined) return { kind: 'no such rule', rule: unknownName };
  if (promoted.every(isFullyEnforced)) return { kind: 'enforced' };
  const flows = input.flows.filter(({ lastSeenMs }) => lastSeenMs >= sinceMs);
  const before = { snapshot, entries };
  const after = { snapshot: withEnforced(snapshot, (rule) => promoted.includes(rule)), entries };
  const { broken, unknown } = diffFlows({ before, after, flows, clock });
  const refs = new Set<string>(promoted.map(({ name }) => formatRuleRef({ kind: 'SegmentationRule', name })));
  const recorded = auditReport({ flows })
    .filter((audited) => refs.has(audited.rule))
    .flatMap(({ pairs }) => pairs);
  const denied = new Set(recorded.map(pairKey));
  const doubtful = unknown.filter((flow) => denied.has(pairKey(flow)));
  return {
    kind: 'checked',
    isSafe: broken.length === 0 && doubtful.length === 0,
    broken,
    together: broken.length === 0 ? [] : sparing({ before, after, flows, clock }),
    doubtful,
    unknown: unknown.filter((flow) => !denied.has(pairKey(flow))),
    recorded,
    records: flows.length,
  };
}

/** The audited rules that would allow what `after` breaks if they were enforced too. Sorted. */
function sparing({ before, after, flows, clock }: Parameters<typeof diffFlows>[0]): string[] {
  const spared = { ...after, snapshot: withEnforced(after.snapshot, ({ action }) => action !== 'deny') };
  const [old, fresh, better] = [before, after, spared].map((set) => new Replay({ set, clock }));
  const found = new Set<string>();
  for (const conversation of conversations(flows)) {
    const isBroken = old?.ask(conversation).verdict === 'allow' && fresh?.ask(conversation).verdict === 'deny';
    if (!isBroken || conversation.worked === 0) continue;
    const answer = better?.ask(conversation);
    const name = answer?.verdict === 'allow' ? /^SegmentationRule\/(.*)$/.exec(answer.rule)?.[1] : undefined;
    const rule = before.snapshot.rules.find((candidate) => candidate.name === name);
    if (rule !== undefined && !isFullyEnforced(rule)) found.add(rule.name);
  }
  return [...found].sort();
}

function isFullyEnforced({ mode, rollout }: CompiledRule): boolean {
  return mode === 'enforce' && rollout >= 100;
}

function withEnforced(snapshot: Snapshot, isChosen: (rule: CompiledRule) => boolean): Snapshot {
  const rules = snapshot.rules.map((rule) =>
    isChosen(rule) ? ({ ...rule, mode: 'enforce', rollout: 100 } as const) : rule,
  );
  return { ...snapshot, rules };
}

function pairKey({ source, destination, port }: Pick<AuditedPair, 'source' | 'destination' | 'port'>): string {
  return `${source} ${destination} ${port}`;
}
