import { ipBytes } from '../address.js';
import { parseSpiffeId, type Identity } from '../identity.js';
import type { Party, PartyWorkload, PortNames } from './connection.js';
import type { NamespaceLabels } from './prepared/namespace-labels.js';
import { serviceAccountName, workloadName, type ServiceAccountName, type WorkloadName } from '../routing/names.js';

/** The facts about one side of a connection that rules match. Null: not known. */
export type PartyFacts = {
  readonly ip: readonly number[];
  readonly namespace: string | null;
  readonly namespaceLabels: Readonly<Record<string, string>> | null;
  readonly serviceAccount: ServiceAccountName | null;
  readonly workload: WorkloadName | null;
  readonly node: string | null;
  readonly labels: Readonly<Record<string, string>> | null;
  readonly ports: PortNames | null;
  readonly isExternal: boolean;
  readonly isUnauthenticated: boolean;
};

/**
 * The facts about the source of a connection.
 *
 * There are two sets, because an address proves nothing. What the certificate proves is enough to allow; what the
 * registry says about the address (`claimedSource`) is enough to deny. With one set, a workload could evade a deny rule
 * by proving no identity, or use an allow rule by taking another workload's address.
 */
export type SourceFacts = {
  readonly source: PartyFacts;
  /** What the registry says about the address; null when it agrees with what is proved. */
  readonly claimedSource: PartyFacts | null;
  /** The source's SPIFFE ID without `spiffe://`, as AuthorizationPolicies write it; null: unauthenticated. */
  readonly principal: string | null;
  /** The namespace in {@link principal}, in any trust domain. */
  readonly principalNamespace: string | null;
  /** The service account in {@link principal}, in any trust domain. */
  readonly principalAccount: ServiceAccountName | null;
  readonly principalTrustDomain: string | null;
  /** The key by which the rollout of a rule divides sources: the proved identity, else the address. */
  readonly rolloutKey: string;
};

/** The facts of one connection, computed before any rule is evaluated. */
export type ConnectionFacts = SourceFacts & { readonly destination: PartyFacts; readonly port: number };

export function connectionFacts(facts: SourceFacts, destination: PartyFacts, port: number): ConnectionFacts {
  const { source, claimedSource, principal, principalNamespace, principalAccount, principalTrustDomain, rolloutKey } =
    facts;
  // Written out: this runs for every decision, and a spread takes microseconds.
  return {
    source,
    claimedSource,
    principal,
    principalNamespace,
    principalAccount,
    principalTrustDomain,
    rolloutKey,
    destination,
    port,
  };
}

/** What facts depend on in addition to the connection itself. */
export type FactsContext = {
  readonly trustDomain: string;
  readonly namespaceLabels: NamespaceLabels;
  /** Whether a ServiceEntry of the root namespace names the address on some port. */
  readonly isNamed: (ip: readonly number[]) => boolean;
};

export function sourceFacts({ ip, identity, workload }: Party, context: FactsContext): SourceFacts {
  const proved = identity === null ? undefined : parseSpiffeId(identity);
  const own = proved?.trustDomain === context.trustDomain ? proved : undefined;
  const isProved = workload === null || runsAs(workload, own);
  const bytes = ipBytes(ip);
  const isUnauthenticated = identity === null;
  const isExternal = workload === null && own === undefined && !context.isNamed(bytes);
  const rest = { ip: bytes, isUnauthenticated, isExternal, context };
  return {
    source: partyFacts({ ...rest, account: own, workload: isProved ? workload : null }),
    claimedSource: isProved ? null : partyFacts({ ...rest, account: workload, workload }),
    principal: proved === undefined || identity === null ? null : identity.slice('spiffe://'.length),
    principalNamespace: proved?.namespace ?? null,
    principalAccount: proved === undefined ? null : serviceAccountName(proved),
    principalTrustDomain: proved?.trustDomain ?? null,
    rolloutKey: identity ?? ip,
  };
}

/**
 * A destination needs no proof here: the source's agent requires the identity that the registry lists for it.
 * `isNamed`: a ServiceEntry of the root namespace names the destination on the dialled port.
 */
export function destinationFacts(
  { ip, identity, workload }: Party,
  isNamed: boolean,
  context: Pick<FactsContext, 'trustDomain' | 'namespaceLabels'>,
): PartyFacts {
  const proved = identity === null || workload !== null ? undefined : parseSpiffeId(identity);
  const own = proved?.trustDomain === context.trustDomain ? proved : undefined;
  return partyFacts({
    ip: ipBytes(ip),
    account: workload ?? own,
    workload,
    isExternal: workload === null && own === undefined && !isNamed,
    isUnauthenticated: identity === null,
    context,
  });
}

function runsAs(workload: PartyWorkload, identity: Identity | undefined): boolean {
  return workload.namespace === identity?.namespace && workload.serviceAccount === identity.serviceAccount;
}

function partyFacts(init: {
  readonly ip: readonly number[];
  readonly account: { readonly namespace: string; readonly serviceAccount: string } | null | undefined;
  readonly workload: PartyWorkload | null;
  readonly isExternal: boolean;
  readonly isUnauthenticated: boolean;
  readonly context: Pick<FactsContext, 'namespaceLabels'>;
}): PartyFacts {
  const { ip, account, workload, isExternal, isUnauthenticated, context } = init;
  return {
    ip,
    namespace: account?.namespace ?? null,
    namespaceLabels: account ? context.namespaceLabels.of(account.namespace) : null,
    serviceAccount: account ? serviceAccountName(account) : null,
    workload: workload === null ? null : workloadName(workload),
    node: workload?.node ?? null,
    labels: workload?.labels ?? null,
    ports: workload?.ports ?? null,
    isExternal,
    isUnauthenticated,
  };
}
