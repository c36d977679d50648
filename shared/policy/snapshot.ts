/**
 * The compiled rules of one revision: what the controller signs and publishes in `culvert_rules`, what agents switch
 * to whole, and what `evaluate` reads. Plain JSON, immutable. Selectors are resolved against the facts of a
 * connection at evaluation time, so a change of a workload's labels needs no new revision.
 */
export type Snapshot = {
  /** Counts up by one per applied change; an agent never goes back. */
  readonly revision: number;
  /** RFC 3339, the controller's clock. */
  readonly createdAt: string;
  /** Who applied it: the subject of the API credential. */
  readonly createdBy: string;
  readonly trustDomain: string;
  readonly mesh: MeshSettings;
  /** Sorted by tier, priority, name. Rules of mode `off` are not here. */
  readonly rules: readonly CompiledRule[];
  /** Sorted by namespace and name, as the three that follow. */
  readonly authorizationPolicies: readonly CompiledAuthorizationPolicy[];
  readonly networkPolicies: readonly CompiledNetworkPolicy[];
  readonly peerAuthentications: readonly CompiledPeerAuthentication[];
  /** What ServiceEntries name: addresses outside the mesh that are not `external`. */
  readonly externals: readonly CompiledExternal[];
  /** Labels of the namespaces that have a Namespace document, `kubernetes.io/metadata.name` not among them. */
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
};

export type MeshSettings = {
  /** The verdict when no rule decides. `audit` allows and counts. */
  readonly defaultAction: 'allow' | 'audit' | 'deny';
  /** The same for destinations that nothing names (`external`); where nobody writes it, it is `defaultAction`. */
  readonly outbound: 'allow' | 'audit' | 'deny';
  /** STRICT refuses plaintext from outside the mesh at a captured workload; PERMISSIVE lets the rules decide. */
  readonly mtls: MtlsMode;
  /** AuthorizationPolicies of this namespace hold for every namespace, as in Istio. */
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
  /** Any of them matches; an empty list is everybody. Segments are expanded. */
  readonly from: readonly PeerMatch[];
  readonly to: readonly PeerMatch[];
  /** Inclusive [first, last]; an empty list is every port. The port is the one of the endpoint, not of a VIP. */
  readonly ports: readonly PortRange[];
  /** What happens to an open connection that this rule forbids, or that it allowed until it expired. */
  readonly onChange: OnChange;
  /** Per cent of the sources that it is enforced for, 0 to 100; for the others it is audited. See `rollout.ts`. */
  readonly rollout: number;
  /** In force from the first to before the second instant, in milliseconds since 1970 by the agent's clock. */
  readonly validFromMs: number | null;
  readonly expiresAtMs: number | null;
  /** Text for the explanation. */
  readonly owner?: string;
  readonly reason?: string;
};

/** What a rule is that says nothing of these. */
export const plainRule = {
  onChange: { kind: 'terminate' },
  rollout: 100,
  validFromMs: null,
  expiresAtMs: null,
} as const satisfies Partial<CompiledRule>;

/** What a set is that has none of these documents. */
export const plainSnapshot = {
  networkPolicies: [],
  peerAuthentications: [],
  externals: [],
  namespaces: {},
} as const satisfies Partial<Snapshot>;

/** `drain`: as `terminate`, `graceMs` later, unless the connection is allowed again or ends by itself before. */
export type OnChange =
  { readonly kind: 'terminate' } | { readonly kind: 'drain'; readonly graceMs: number } | { readonly kind: 'keep' };

export type PortRange = readonly [first: number, last: number];

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
  /** Labels of the namespace that the party is in. */
  readonly namespaceLabels?: Readonly<Record<string, string>>;
  /** No workload, service or ServiceEntry names the address. */
  readonly external?: true;
  /** It proved no identity. */
  readonly unauthenticated?: true;
  readonly cidrs?: readonly string[];
  readonly exceptCidrs?: readonly string[];
  /** Set when the match came from a segment: its name, for the explanation only. */
  readonly segment?: string;
  /** Set when the match came from a service (`namespace/name`): for the explanation only. */
  readonly service?: string;
};

/** Istio's AuthorizationPolicy, the fields that mean something for TCP. */
export type CompiledAuthorizationPolicy = {
  readonly namespace: string;
  readonly name: string;
  readonly action: 'ALLOW' | 'DENY';
  /** Labels of the destination workload; empty selects all of the namespace (of the mesh in the root namespace). */
  readonly selector: Readonly<Record<string, string>>;
  readonly rules: readonly CompiledAuthorizationRule[];
};

/** `from`, `to`: any entry matches, an empty list matches everything. `when`: all conditions must hold. */
export type CompiledAuthorizationRule = {
  readonly from: readonly AuthorizationSource[];
  readonly to: readonly AuthorizationOperation[];
  readonly when?: readonly AuthorizationCondition[];
};

/** Each list: any value matches; lists combine with AND; `*`, `prefix*` and `*suffix` as in Istio. */
export type AuthorizationSource = {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  /** `namespace/name`, of whatever trust domain, without wildcards. */
  readonly serviceAccounts?: readonly string[];
  readonly notServiceAccounts?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly notNamespaces?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
};

export type AuthorizationOperation = {
  readonly ports?: readonly number[];
  readonly notPorts?: readonly number[];
};

/** A condition of Istio's `when` about something that TCP shows. One of the lists at least is there. */
export type AuthorizationCondition = {
  readonly key: AuthorizationConditionKey;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
};

export const authorizationConditionKeys = [
  'source.ip',
  'source.namespace',
  'source.principal',
  'destination.ip',
  'destination.port',
] as const;
export type AuthorizationConditionKey = (typeof authorizationConditionKeys)[number];

/** Kubernetes' NetworkPolicy (networking.k8s.io/v1), the part about TCP. */
export type CompiledNetworkPolicy = {
  readonly namespace: string;
  readonly name: string;
  /** Workloads of `namespace` that it is about; without requirements all of them. */
  readonly podSelector: readonly LabelRequirement[];
  /** Connections to these workloads that it allows; null: it says nothing about this direction. */
  readonly ingress: readonly NetworkPolicyRule[] | null;
  /** Connections from these workloads that it allows. */
  readonly egress: readonly NetworkPolicyRule[] | null;
};

/** An empty list of peers is everybody, an empty list of ports every port. */
export type NetworkPolicyRule = {
  readonly peers: readonly NetworkPolicyPeer[];
  readonly ports: readonly PortRange[];
};

export type NetworkPolicyPeer =
  | {
      readonly kind: 'pods';
      /** Requirements on the namespace's labels; null: the policy's own namespace. */
      readonly namespaceSelector: readonly LabelRequirement[] | null;
      readonly podSelector: readonly LabelRequirement[];
    }
  | { readonly kind: 'block'; readonly cidr: string; readonly except: readonly string[] };

/** `NotIn` and `DoesNotExist` hold for a label that is not there. Values: for `In` and `NotIn` only. */
export type LabelRequirement = {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
};

/** Istio's PeerAuthentication. Null: as the next wider scope says. */
export type CompiledPeerAuthentication = {
  readonly namespace: string;
  readonly name: string;
  /** Labels of the workloads; empty: the whole namespace (of the mesh in the root namespace). */
  readonly selector: Readonly<Record<string, string>>;
  readonly mode: MtlsMode | null;
  /** By port of the workload; these come before `mode`. */
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
};
