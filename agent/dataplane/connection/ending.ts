import type { RuleRef } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';

/** How a connection ended. `rule`: the rule that ended it; null leaves the rule that let it in. */
export type Ending = {
  readonly reason: Reason;
  /** What a person needs beyond the reason, such as `ECONNREFUSED 198.18.11.2:80`; empty when there is nothing to add. */
  readonly detail: string;
  readonly rule: RuleRef | null;
  /** The other agent decided: the record names its rule or none, and not the rule of this host, which had allowed it. */
  readonly isOtherAgents?: boolean;
  /** It is this agent's own doing (its lines, limits, certificate, descriptors), which says nothing of the endpoint. */
  readonly isOwn?: boolean;
};

/** The ending of a connection whose far side was not reached: what a step returns in place of its facts. */
export type Refused = Ending & {
  readonly ok: false;
  /** Another endpoint may be tried, because this one could not be reached. Never true for a decision of policy. */
  readonly isRetryable: boolean;
};

export function refused(reason: Reason, detail = '', rule: RuleRef | null = null): Refused {
  return { ok: false, reason, detail, rule, isRetryable: false };
}

/** As {@link refused}, and it is this agent's own doing. */
export function refusedByUs(reason: Reason, detail: string): Refused {
  return { ...refused(reason, detail), isOwn: true };
}

/** As {@link unreachable}, and it is this agent's own doing: another endpoint may be tried, and nothing is said of this one. */
export function notAsked(reason: Reason, detail: string): Refused {
  return { ...unreachable(reason, detail), isOwn: true };
}

/** Refuses this endpoint only. */
export function unreachable(reason: Reason, detail: string): Refused {
  return { ok: false, reason, detail, rule: null, isRetryable: true };
}
