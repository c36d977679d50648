import type { IpAddress } from '../address.js';
import type { SpiffeId } from '../identity.js';
import type { Reason } from '../reasons.js';
import { clusterPolicyKinds, type OnChange, type Tier } from './snapshot.js';

/** What is known about one side of a connection. An identity is set only when it was proved. */
export type Party = {
  readonly ip: IpAddress;
  /**
   * From the certificate (inbound), or from the registry for the own workload and for destinations. Null:
   * unauthenticated.
   */
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
  /** The named ports; absent: none. */
  readonly ports?: PortNames;
};

/** The ports of a workload by name. */
export type PortNames = Readonly<Record<string, number>>;

/** The subject of a decision: who dials, and which port of which endpoint. */
export type Connection = {
  readonly source: Party;
  readonly destination: Party;
  readonly port: number;
  /** The source is the destination: see `areOneWorkload`. */
  readonly isOwn?: boolean;
};

/** The evaluator's source of time, which keeps it pure. */
export type Clock = { readonly nowMs: () => number };

const ruleKinds = [
  'SegmentationRule',
  'AuthorizationPolicy',
  'NetworkPolicy',
  ...clusterPolicyKinds,
  'PeerAuthentication',
  'Mesh',
] as const;

/** The rule that decided, named as in the user's document; `Mesh/default` when no rule did. */
export type RuleRef = {
  readonly kind: (typeof ruleKinds)[number];
  readonly name: string;
  readonly namespace?: string;
  readonly tier?: Tier;
};

export type Decision = {
  readonly verdict: 'allow' | 'deny';
  /** `OK`, `POLICY_DENY`, `POLICY_DEFAULT_DENY` or `POLICY_EXPIRED`. */
  readonly reason: Reason;
  /** The rule that decides; for `POLICY_EXPIRED` the one that allowed the connection until it expired. */
  readonly rule: RuleRef;
  /** What happens to a connection that is open when this decision denies it: `onChange` of `rule`, else `terminate`. */
  readonly onChange: OnChange;
  /**
   * Rules that would have denied but only audit, because of their mode, their rollout or the mesh's default. Rules
   * after an audited rule that would have allowed are left out, and so are rules of the same tier after one that would
   * have passed.
   */
  readonly audited: readonly RuleRef[];
  /** Why each step decided or did not; empty unless a trace was requested. */
  readonly trace: readonly TraceStep[];
};

export type TraceStep = {
  readonly stage: 'platform' | 'team' | 'authorization' | 'networkPolicy' | 'baseline' | 'outbound' | 'default';
  readonly rule: RuleRef | null;
  readonly outcome: 'allow' | 'deny' | 'pass' | 'audit' | 'no match';
  /** One clause for people, such as "source billing/api is in segment batch". */
  readonly detail: string;
};

/**
 * A {@link RuleRef} as text: `SegmentationRule/db-only`, `AuthorizationPolicy/billing/api`, `Mesh/default`. Never the bare
 * name of a document, which is a plain string.
 */
export type RuleName = string & { readonly __brand: 'RuleName' };

/** For logs, reports and the refusal header. */
export function formatRuleRef({ kind, namespace, name }: RuleRef): RuleName {
  return (namespace === undefined ? `${kind}/${name}` : `${kind}/${namespace}/${name}`) as RuleName;
}

const rulePattern = new RegExp(`^(${ruleKinds.join('|')})/(?:([\\w.-]{1,253})/)?([\\w.-]{1,253})$`);

/** Reads what {@link formatRuleRef} writes; null for any other text. The tier is not in the text. */
export function parseRuleRef(text: string): RuleRef | null {
  const match = rulePattern.exec(text);
  if (match === null) return null;
  const [, kind, namespace, name] = match as unknown as [string, RuleRef['kind'], string | undefined, string];
  return namespace === undefined ? { kind, name } : { kind, namespace, name };
}

/** Stands for the mesh's default action where a rule is named. */
export const meshDefaultRef: RuleRef = Object.freeze({ kind: 'Mesh', name: 'default' });
