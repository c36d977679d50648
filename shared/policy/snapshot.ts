import type { CompiledDestinationRule, CompiledRateLimit, CompiledVirtualService } from './traffic-documents.js';

/**
 * The compiled rules of one revision. The controller signs and publishes them in `culvert_rules`, agents switch to a
 * revision as a whole, and `evaluate` reads it. Plain JSON, immutable. Selectors are resolved against the facts of a
 * connection at evaluation time, so a changed label of a workload needs no new revision.
 */
export type Snapshot = {
  /** Increases by one per applied change. An agent never goes back to a lower one. */
  readonly revision: number;
  /** RFC 3339, by the controller's clock. */
  readonly createdAt: string;
  /** The user who applied the change: the subject of the API credential. */
  readonly createdBy: string;
  readonly trustDomain: string;
  readonly mesh: MeshSettings;
  /**
   * Segments that rules name, each once, and after the segments that it names. Absent: none is so large that naming it is
   * shorter than listing its members in the rule.
   */
  readonly segments?: readonly CompiledSegment[];
  /** Sorted by tier, priority and name. Rules of mode `off` are left out. */
  readonly rules: readonly CompiledRule[];
  /** Sorted by namespace and name, like the next three lists. */
  readonly authorizationPolicies: readonly CompiledAuthorizationPolicy[];
  readonly networkPolicies: readonly CompiledNetworkPolicy[];
  readonly peerAuthentications: readonly CompiledPeerAuthentication[];
  /** Sorted by tier, priority, kind and name. Absent: there is none. */
  readonly clusterPolicies?: readonly CompiledClusterPolicy[];
  /** Addresses outside the mesh that ServiceEntries name. Those of the root namespace are not `external`. */
  readonly externals: readonly CompiledExternal[];
  /** Labels of namespaces that have a Namespace document, without `kubernetes.io/metadata.name`. */
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** How connections to services are shared among endpoints. By namespace and name; absent: there is none. */
  readonly destinationRules?: readonly CompiledDestinationRule[];
  /** Which subset of a service connections go to. By namespace and name; absent: there is none. */
  readonly virtualServices?: readonly CompiledVirtualService[];
  /** How many connections to services there may be. By namespace and name; absent: there is none. */
  readonly rateLimits?: readonly CompiledRateLimit[];
};

export type MeshSettings = {
  /** The verdict when no rule decides. `audit` allows and counts. */
  readonly defaultAction: 'allow' | 'audit' | 'deny';
  /** The same for destinations that are `external`. `defaultAction` if no document sets it. */
  readonly outbound: 'allow' | 'audit' | 'deny';
  /** STRICT: a captured workload refuses plaintext from outside the mesh. PERMISSIVE: the rules decide. */
  readonly mtls: MtlsMode;
  /** AuthorizationPolicies and ServiceEntries in this namespace are about every namespace, as in Istio. */
  readonly rootNamespace: string;
};

export type MtlsMode = 'STRICT' | 'PERMISSIVE';

export const tiers = ['platform', 'team', 'baseline'] as const;
export type Tier = (typeof tiers)[number];

export type CompiledRule = {
  readonly name: string;
  readonly tier: Tier;
  /** Lower is first. */
  readonly priority: number;
  readonly action: 'allow' | 'deny' | 'pass';
  readonly mode: 'enforce' | 'audit';
  /** Alternatives; an empty list matches every party. */
  readonly from: readonly RulePeer[];
  readonly to: readonly RulePeer[];
  /** Alternatives; an empty list matches every port. Ports are those of endpoints, not of VIPs. */
  readonly ports: readonly RulePort[];
  /** What happens to an open connection that this rule now denies, or that it allowed until it expired. */
  readonly onChange: OnChange;
  /** Percentage of sources for which the rule is enforced, 0 to 100; it is audited for the others. See `rollout.ts`. */
  readonly rollout: number;
  /** In force from the first instant until just before the second, in milliseconds since 1970 by the agent's clock. */
  readonly validFromMs: number | null;
  readonly expiresAtMs: number | null;
  /** Shown in explanations. */
  readonly owner?: string;
  readonly reason?: string;
};

/** Values for a rule that does not set these fields. */
export const plainRule = {
  onChange: { kind: 'terminate' },
  rollout: 100,
  validFromMs: null,
  expiresAtMs: null,
} as const satisfies Partial<CompiledRule>;

/** Values for a set without these documents. */
export const plainSnapshot = {
  networkPolicies: [],
  peerAuthentications: [],
  clusterPolicies: [],
  externals: [],
  namespaces: {},
} as const satisfies Partial<Snapshot>;

/** `drain`: terminates after `graceMs`, unless the connection is allowed again or ends before. */
export type OnChange =
  | { readonly kind: 'terminate' }
  | { readonly kind: 'drain'; readonly graceMs: number }
  | { readonly kind: 'keep' };

/** Both ends are in it. */
export type PortRange = readonly [first: number, last: number];

/** A range, or the name that a workload gives to one of its ports: it stands for another number in each workload. */
export type RulePort = PortRange | string;

/** A segment whose members are in the snapshot once, however many rules name it. */
export type CompiledSegment = { readonly name: string; readonly members: readonly RulePeer[] };

/** A peer of a rule or a member of a segment: written out, or all members of a segment of the same snapshot. */
export type RulePeer = PeerMatch | SegmentRef;
export type SegmentRef = { readonly memberOf: string };

export function isSegmentRef(peer: RulePeer): peer is SegmentRef {
  return 'memberOf' in peer;
}

/**
 * All fields that are present must match; an absent field matches everything. Each field has a row in
 * `shared/policy/match-fields.ts` and one in `controller/resources/match/peer-fields.ts`.
 */
export type PeerMatch = {
  readonly namespaces?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** `namespace/name`. */
  readonly serviceAccounts?: readonly string[];
  /** `namespace/name`. */
  readonly workloads?: readonly string[];
  readonly nodes?: readonly string[];
  /** Labels of the party's namespace. */
  readonly namespaceLabels?: Readonly<Record<string, string>>;
  /** No workload, service or ServiceEntry names the address. */
  readonly external?: true;
  /** The party proved no identity. */
  readonly unauthenticated?: true;
  readonly cidrs?: readonly string[];
  readonly exceptCidrs?: readonly string[];
  /** The segment that the match came from, for explanations only. */
  readonly segment?: string;
  /** The service (`namespace/name`) that the match came from, for explanations only. */
  readonly service?: string;
};

/** Istio's AuthorizationPolicy, limited to the fields that apply to TCP. */
export type CompiledAuthorizationPolicy = {
  readonly namespace: string;
  readonly name: string;
  readonly action: 'ALLOW' | 'DENY';
  /** Audited and not enforced: Istio's annotation `istio.io/dry-run`. */
  readonly dryRun?: true;
  /** Labels of the destination workload. Empty selects the whole namespace; in the root namespace, the whole mesh. */
  readonly selector: Readonly<Record<string, string>>;
  readonly rules: readonly CompiledAuthorizationRule[];
};

/** `from` and `to` list alternatives; an empty list matches everything. All `when` conditions must hold. */
export type CompiledAuthorizationRule = {
  readonly from: readonly AuthorizationSource[];
  readonly to: readonly AuthorizationOperation[];
  readonly when?: readonly AuthorizationCondition[];
};

/** Each list holds alternatives, and all lists must match; `*`, `prefix*` and `*suffix` as in Istio. */
export type AuthorizationSource = {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  /** `namespace/name` in any trust domain, without wildcards. */
  readonly serviceAccounts?: readonly string[];
  readonly notServiceAccounts?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly notNamespaces?: readonly string[];
  readonly trustDomains?: readonly string[];
  readonly notTrustDomains?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
};

export type AuthorizationOperation = {
  readonly ports?: readonly number[];
  readonly notPorts?: readonly number[];
};

/** A condition of Istio's `when` on something that a TCP connection shows. At least one of the lists is set. */
export type AuthorizationCondition = {
  readonly key: AuthorizationConditionKey;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
};

export const authorizationConditionKeys = [
  'source.ip',
  'source.namespace',
  'source.principal',
  'source.serviceAccount',
  'source.trustDomain',
  'destination.ip',
  'destination.port',
] as const;
export type AuthorizationConditionKey = (typeof authorizationConditionKeys)[number];

/** Kubernetes' NetworkPolicy (networking.k8s.io/v1), limited to TCP. */
export type CompiledNetworkPolicy = {
  readonly namespace: string;
  readonly name: string;
  /** Workloads of `namespace` that it selects; no requirements select all of them. */
  readonly podSelector: readonly LabelRequirement[];
  /** Connections that it allows to these workloads; null: it does not isolate this direction. */
  readonly ingress: readonly NetworkPolicyRule[] | null;
  /** Connections that it allows from these workloads; null: it does not isolate this direction. */
  readonly egress: readonly NetworkPolicyRule[] | null;
};

/** An empty list of peers matches everything, an empty list of ports every port. */
export type NetworkPolicyRule = {
  readonly peers: readonly NetworkPolicyPeer[];
  readonly ports: readonly RulePort[];
};

export type NetworkPolicyPeer =
  | {
      readonly kind: 'pods';
      /** Requirements on the namespace's labels; null: the policy's own namespace. */
      readonly namespaceSelector: readonly LabelRequirement[] | null;
      readonly podSelector: readonly LabelRequirement[];
    }
  | { readonly kind: 'block'; readonly cidr: string; readonly except: readonly string[] };

export const clusterPolicyKinds = ['ClusterNetworkPolicy', 'AdminNetworkPolicy', 'BaselineAdminNetworkPolicy'] as const;

/** The tiers in which they are evaluated, after the SegmentationRules there. */
export const clusterTiers = ['platform', 'baseline'] as const;
export type ClusterTier = (typeof clusterTiers)[number];

/** Policies of the Kubernetes network policy API for a whole cluster, limited to TCP. */
export type CompiledClusterPolicy = {
  readonly kind: (typeof clusterPolicyKinds)[number];
  readonly name: string;
  readonly tier: ClusterTier;
  /** Lower is first. */
  readonly priority: number;
  /** The workloads that it is for; no requirements select all. */
  readonly subject: {
    readonly namespaceSelector: readonly LabelRequirement[];
    readonly podSelector: readonly LabelRequirement[];
  };
  /** In order: the first that matches decides. */
  readonly ingress: readonly ClusterPolicyRule[];
  readonly egress: readonly ClusterPolicyRule[];
};

export type ClusterPolicyRule = NetworkPolicyRule & { readonly action: 'accept' | 'deny' | 'pass' };

/** `NotIn` and `DoesNotExist` also hold when the label is missing. `values` is used by `In` and `NotIn` only. */
export type LabelRequirement = {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
};

/** Istio's PeerAuthentication. A null mode inherits from the next wider scope. */
export type CompiledPeerAuthentication = {
  readonly namespace: string;
  readonly name: string;
  /**
   * Labels of the workloads. Empty selects the whole namespace; in the root namespace, the whole mesh. There a document
   * with labels has no effect.
   */
  readonly selector: Readonly<Record<string, string>>;
  readonly mode: MtlsMode | null;
  /** By port of the workload; overrides `mode`. */
  readonly ports: Readonly<Record<string, MtlsMode>>;
};

/** Addresses outside the mesh that a ServiceEntry names. */
export type CompiledExternal = {
  /** `namespace/name` of the ServiceEntry. */
  readonly name: string;
  readonly hosts: readonly string[];
  readonly cidrs: readonly string[];
  /** An empty list is every port. */
  readonly ports: readonly PortRange[];
  /** Ports with `earlyAccept: false`, in ascending order; absent: none. */
  readonly lateAcceptPorts?: readonly number[];
};
