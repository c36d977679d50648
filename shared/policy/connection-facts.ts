import { ipBytes } from '../address.js';
import { parseSpiffeId, type Identity } from '../identity.js';
import type { Connection, Party, PartyWorkload } from './connection.js';

/** What rules may hold against one side. Null: not known. */
export type PartyFacts = {
  readonly ip: readonly number[];
  readonly namespace: string | null;
  /** `namespace/name`. */
  readonly serviceAccount: string | null;
  /** `namespace/name`. */
  readonly workload: string | null;
  readonly node: string | null;
  readonly labels: Readonly<Record<string, string>> | null;
};

/**
 * The facts of one connection, worked out once before any rule is looked at.
 *
 * The source has two sets, because an address proves nothing: what its certificate proves is good enough to allow, and
 * what the registry says of its address (`claimed`) is good enough to deny. Otherwise a rule against a workload could be
 * evaded by not proving who one is, and a rule for it used by taking its address.
 */
export type ConnectionFacts = {
  readonly source: PartyFacts;
  /** Null when the registry says nothing else than what is proved. */
  readonly claimedSource: PartyFacts | null;
  readonly destination: PartyFacts;
  readonly port: number;
  /** The source's SPIFFE ID without `spiffe://`, as AuthorizationPolicies write it; null: unauthenticated. */
  readonly principal: string | null;
  /** The namespace in {@link principal}, of whatever trust domain. */
  readonly principalNamespace: string | null;
};

export function connectionFacts({ source, destination, port }: Connection, trustDomain: string): ConnectionFacts {
  const identity = source.identity === null ? undefined : parseSpiffeId(source.identity);
  const own = identity?.trustDomain === trustDomain ? identity : undefined;
  const { workload } = source;
  const isProved = workload === null || runsAs(workload, own);
  const sourceIp = ipBytes(source.ip);
  return {
    source: facts(sourceIp, own, isProved ? workload : null),
    claimedSource: isProved ? null : facts(sourceIp, workload, workload),
    destination: destinationFacts(destination, trustDomain),
    port,
    principal: identity === undefined || source.identity === null ? null : source.identity.slice('spiffe://'.length),
    principalNamespace: identity?.namespace ?? null,
  };
}

/** Nothing needs a proof here: the source's agent requires exactly the registry's identity of the destination. */
function destinationFacts({ ip, identity, workload }: Party, trustDomain: string): PartyFacts {
  if (workload !== null) return facts(ipBytes(ip), workload, workload);
  const proved = identity === null ? undefined : parseSpiffeId(identity);
  return facts(ipBytes(ip), proved?.trustDomain === trustDomain ? proved : undefined, null);
}

function runsAs(workload: PartyWorkload, identity: Identity | undefined): boolean {
  return workload.namespace === identity?.namespace && workload.serviceAccount === identity.serviceAccount;
}

function facts(
  ip: readonly number[],
  account: { readonly namespace: string; readonly serviceAccount: string } | null | undefined,
  workload: PartyWorkload | null,
): PartyFacts {
  return {
    ip,
    namespace: account?.namespace ?? null,
    serviceAccount: account ? `${account.namespace}/${account.serviceAccount}` : null,
    workload: workload === null ? null : `${workload.namespace}/${workload.name}`,
    node: workload?.node ?? null,
    labels: workload?.labels ?? null,
  };
}
