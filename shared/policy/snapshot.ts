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
  readonly authorizationPolicies: readonly CompiledAuthorizationPolicy[];
};

export type MeshSettings = {
  /** The verdict when no rule decides. `audit` allows and counts. */
  readonly defaultAction: 'allow' | 'audit' | 'deny';
  /** STRICT refuses plaintext from outside the mesh at a captured workload; PERMISSIVE lets the rules decide. */
  readonly mtls: 'STRICT' | 'PERMISSIVE';
  /** AuthorizationPolicies of this namespace hold for every namespace, as in Istio. */
  readonly rootNamespace: string;
};

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
};

export type PortRange = readonly [first: number, last: number];

/** All fields that are present must match; an absent field matches everything. */
export type PeerMatch = {
  readonly namespaces?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** `namespace/name`. */
  readonly serviceAccounts?: readonly string[];
  /** `namespace/name`. */
  readonly workloads?: readonly string[];
  readonly nodes?: readonly string[];
  readonly cidrs?: readonly string[];
  readonly exceptCidrs?: readonly string[];
  /** Set when the match came from a segment: its name, for the explanation only. */
  readonly segment?: string;
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

/** `from` and `to`: any entry matches, an empty list matches everything. `when` is not part of the TCP subset. */
export type CompiledAuthorizationRule = {
  readonly from: readonly AuthorizationSource[];
  readonly to: readonly AuthorizationOperation[];
};

/** Each list: any value matches; lists combine with AND; `*`, `prefix*` and `*suffix` as in Istio. */
export type AuthorizationSource = {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly notNamespaces?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
};

export type AuthorizationOperation = {
  readonly ports?: readonly number[];
  readonly notPorts?: readonly number[];
};
