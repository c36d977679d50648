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
  /** All of them are enforced already, for every source. */
  | { readonly kind: 'enforced' }
  | {
      readonly kind: 'checked';
      /** Nothing that was seen in the window would break. */
      readonly isSafe: boolean;
      /** What worked, and the rule would deny. */
      readonly broken: readonly FlowChange[];
      /**
       * Rules that are only audited too and would keep some of that from breaking. While they were audited nothing of it
       * was counted as denied; enforced together with them, these rules break less.
       */
      readonly together: readonly string[];
      /** What cannot be told, although one of the rules was recorded as one that would have denied it. */
      readonly doubtful: readonly UnknownFlow[];
      /** What else cannot be told. It does not stand in the way. */
      readonly unknown: readonly UnknownFlow[];
      /** What the agents recorded: connections that the rules, as they were then, would have denied. */
      readonly recorded: readonly AuditedPair[];
      /** Records of the window. With none there is no evidence at all. */
      readonly records: number;
    };

/** Whether rules that are audited, or enforced for a part of the sources, may be enforced for all, in one change. */
export function promoteCheck(
  input: RuleSet & {
    /** Names of SegmentationRules. */
    readonly rules: readonly string[];
    readonly flows: readonly FlowRecord[];
    /** Records that were last seen before are ignored. */
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

/** The audited rules that would allow what `after` breaks, were they enforced too. Sorted. */
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
