import type { IpAddress } from '../address.js';
import type { SpiffeId } from '../identity.js';
import type { Reason } from '../reasons.js';
import type { Tier } from './snapshot.js';

/** What is known of one side of a connection. Facts only: an identity is here only when it was proved. */
export type Party = {
  readonly ip: IpAddress;
  /** From the certificate (inbound) or the registry (the own workload, and the destination); null: unauthenticated. */
  readonly identity: SpiffeId | null;
  /** The registered workload, or null when the address belongs to none (`external`). */
  readonly workload: PartyWorkload | null;
};

export type PartyWorkload = {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly node: string | null;
};

/** The thing that is ruled: who dials whom on which port of the endpoint. */
export type Connection = { readonly source: Party; readonly destination: Party; readonly port: number };

/** Where the evaluator takes the time from, so that it stays pure. */
export type Clock = { readonly nowMs: () => number };

/** Which rule decided, in the words of the user's document. `mesh/default` when none did. */
export type RuleRef = {
  readonly kind: 'SegmentationRule' | 'AuthorizationPolicy' | 'Mesh';
  readonly name: string;
  readonly namespace?: string;
  readonly tier?: Tier;
};

export type Decision = {
  readonly verdict: 'allow' | 'deny';
  /** `OK`, `POLICY_DENY` or `POLICY_DEFAULT_DENY` (in this cut). */
  readonly reason: Reason;
  readonly rule: RuleRef;
  /** Rules of mode `audit` that would have denied, and the default when it is `audit`. */
  readonly audited: readonly RuleRef[];
  /** Why each step decided or not; empty unless a trace was asked for. */
  readonly trace: readonly TraceStep[];
};

export type TraceStep = {
  readonly stage: 'platform' | 'team' | 'authorization' | 'baseline' | 'default';
  readonly rule: RuleRef | null;
  readonly outcome: 'allow' | 'deny' | 'pass' | 'audit' | 'no match';
  /** One readable clause, such as "source billing/api is in segment batch". */
  readonly detail: string;
};

/** `SegmentationRule/db-only`, `AuthorizationPolicy/billing/api`, `Mesh/default`: for logs and the refusal header. */
export function formatRuleRef(rule: RuleRef): string {
  return rule.namespace === undefined ? `${rule.kind}/${rule.name}` : `${rule.kind}/${rule.namespace}/${rule.name}`;
}
