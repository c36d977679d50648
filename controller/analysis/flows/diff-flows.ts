import type { Clock, RuleName } from '../../../shared/policy/connection.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import { conversations, flowEndName, type TellingEnds } from './conversations.js';
import { Replay } from './replay.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** A recorded conversation for which a proposed set of rules changes the decision. */
export type FlowChange = {
  /** `billing/api`, or the network of an address outside the mesh. */
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  /** Recorded connections that were allowed, and those that were refused or terminated. */
  readonly allowed: number;
  readonly denied: number;
  /** The allowed connections that reached the application. */
  readonly worked: number;
  readonly daysSeen: number;
  readonly lastSeenMs: number;
  /** A connection that one end alone tells may be invented. See `Conversation`. */
  readonly toldBy: TellingEnds | null;
  /** The rule that decides now, and the one that would decide after the change. */
  readonly before: RuleName;
  readonly after: RuleName;
};

export type UnknownFlow = Omit<FlowChange, 'before' | 'after'> & { readonly why: string };

export type FlowDiff = {
  /** Seen working and allowed now, but would be denied. Most connections first. */
  readonly broken: readonly FlowChange[];
  /** Denied now, but would be allowed. */
  readonly opened: readonly FlowChange[];
  /** Stays allowed, but an audited rule would newly deny it. `after` is that rule. */
  readonly newlyAudited: readonly FlowChange[];
  /** Conversations for which the result is unknown, and why. */
  readonly unknown: readonly UnknownFlow[];
  /** The number of conversations for which nothing changes. */
  readonly unchanged: number;
};

/** Compares how the current and a proposed set of rules decide the recorded connections. */
export function diffFlows(input: {
  readonly before: RuleSet;
  readonly after: RuleSet;
  readonly flows: readonly FlowRecord[];
  readonly clock: Clock;
}): FlowDiff {
  const { before, after, flows, clock } = input;
  const [old, fresh] = [new Replay({ set: before, clock }), new Replay({ set: after, clock })];
  const broken: FlowChange[] = [];
  const opened: FlowChange[] = [];
  const newlyAudited: FlowChange[] = [];
  const unknown: UnknownFlow[] = [];
  let unchanged = 0;
  for (const conversation of conversations(flows)) {
    const { source, destination, port, allowed, denied, worked, daysSeen, lastSeenMs, toldBy } = conversation;
    const seen = { port, allowed, denied, worked, daysSeen, lastSeenMs, toldBy };
    const flow = { source: flowEndName(source), destination: flowEndName(destination), ...seen };
    const [was, will] = [old.ask(conversation), fresh.ask(conversation)];
    if (was.verdict === 'unknown' || will.verdict === 'unknown') {
      const isSure = was.verdict === 'unknown' && will.verdict === 'deny' && worked === 0;
      if (isSure) unchanged++;
      else unknown.push({ ...flow, why: whyOf(will) ?? whyOf(was) ?? '' });
      continue;
    }
    const change = { ...flow, before: was.rule, after: will.rule };
    const audits = will.audited.find((rule) => !was.audited.includes(rule));
    if (was.verdict === 'allow' && will.verdict === 'deny' && worked > 0) broken.push(change);
    else if (was.verdict === 'deny' && will.verdict === 'allow') opened.push(change);
    else if (was.verdict === will.verdict && will.verdict === 'allow' && worked > 0 && audits !== undefined) {
      newlyAudited.push({ ...change, after: audits });
    } else unchanged++;
  }
  return {
    broken: broken.sort(mostFirst),
    opened: opened.sort(mostFirst),
    newlyAudited: newlyAudited.sort(mostFirst),
    unknown: unknown.sort(mostFirst),
    unchanged,
  };
}

function whyOf(replayed: ReturnType<Replay['ask']>): string | undefined {
  return replayed.verdict === 'unknown' ? replayed.why : undefined;
}

function mostFirst(a: Omit<FlowChange, 'before' | 'after'>, b: Omit<FlowChange, 'before' | 'after'>): number {
  return b.allowed + b.denied - (a.allowed + a.denied) || b.lastSeenMs - a.lastSeenMs;
}
