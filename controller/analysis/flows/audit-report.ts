import type { FlowRecord } from '../../../shared/wire/flows.js';
import { conversationKey, conversations, flowEndName, type TellingEnds } from './conversations.js';

/** A pair that an audited rule would have denied. */
export type AuditedPair = {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  /** Each connection counts once, though both agents record it. */
  readonly connections: number;
  readonly daysSeen: number;
  readonly lastSeenMs: number;
  /** Which ends tell that this rule would have denied it. See `Conversation`. */
  readonly toldBy: TellingEnds | null;
};

/** What one rule would have denied if it were enforced. `Mesh/default` stands for `defaultAction: audit`. */
export type AuditedRule = {
  readonly rule: string;
  readonly connections: number;
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  /** Most recent first. */
  readonly pairs: readonly AuditedPair[];
};

/** Reports what audited rules would have denied, by rule; the rule hit most recently comes first. */
export function auditReport({ flows }: { readonly flows: readonly FlowRecord[] }): AuditedRule[] {
  const byRule = new Map<string, FlowRecord[]>();
  for (const flow of flows) {
    for (const rule of flow.audited) {
      const others = byRule.get(rule);
      if (others === undefined) byRule.set(rule, [flow]);
      else others.push(flow);
    }
  }
  return [...byRule].map(([rule, hits]) => reportOf(rule, hits)).sort(newestFirst(({ rule }) => rule));
}

function reportOf(rule: string, hits: readonly FlowRecord[]): AuditedRule {
  const pairs = conversations(hits).map((conversation) => {
    const { source, destination, port, allowed, denied, daysSeen, lastSeenMs, toldBy } = conversation;
    const connections = allowed + denied;
    const key = conversationKey(conversation);
    return {
      key,
      pair: {
        source: flowEndName(source),
        destination: flowEndName(destination),
        port,
        connections,
        daysSeen,
        lastSeenMs,
        toldBy,
      },
    };
  });
  return {
    rule,
    connections: pairs.reduce((sum, { pair }) => sum + pair.connections, 0),
    firstSeenMs: Math.min(...hits.map(({ firstSeenMs }) => firstSeenMs)),
    lastSeenMs: Math.max(...hits.map(({ lastSeenMs }) => lastSeenMs)),
    pairs: pairs
      .map(({ key, pair }) => ({ key, pair, lastSeenMs: pair.lastSeenMs }))
      .sort(newestFirst(({ key }) => key))
      .map(({ pair }) => pair),
  };
}

function newestFirst<T extends { readonly lastSeenMs: number }>(nameOf: (value: T) => string): (a: T, b: T) => number {
  return (a, b) => b.lastSeenMs - a.lastSeenMs || (nameOf(a) < nameOf(b) ? -1 : 1);
}
