import type { PartyFacts } from '../../../shared/policy/connection-facts.js';
import { PeerIndex } from '../../../shared/policy/prepared/peer-index.js';
import { matchesAnyPeer, preparePeer } from '../../../shared/policy/prepared/prepared-peer.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { withOnly } from './peer-fields.js';
import { serviceAccountName, workloadName } from '../../../shared/routing/names.js';

/** What the registry or a proved identity says about a party. */
export type RegisteredParty = {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Null: only the identity is known. */
  readonly workload: {
    readonly name: string;
    readonly node: string | null;
    readonly labels: Readonly<Record<string, string>>;
  } | null;
};

/** Up to this number, asking each is faster than an index. */
const fewPeers = 16;

/**
 * Whether a party may match one of the peers, as far as the registry can tell. False: certainly not. True: namespace
 * labels, addresses and proofs are left to the evaluator. Null: nothing is known about the party.
 */
export function mayMatchRegistered(peers: readonly PeerMatch[]): (party: RegisteredParty | null) => boolean {
  const prepared = peers.map((match) => preparePeer(withOnly(match, 'workload')));
  if (prepared.length <= fewPeers) return (party) => matchesAnyPeer(prepared, factsOf(party));
  const index = new PeerIndex();
  index.add(prepared);
  return (party) => {
    let isFound = false;
    index.forEachMatch(factsOf(party), () => (isFound = true));
    return isFound;
  };
}

function factsOf(party: RegisteredParty | null): PartyFacts {
  const workload = party?.workload ?? null;
  return {
    ip: [],
    namespace: party?.namespace ?? null,
    namespaceLabels: null,
    serviceAccount: party === null ? null : serviceAccountName(party),
    workload:
      party === null || workload === null ? null : workloadName({ namespace: party.namespace, name: workload.name }),
    node: workload?.node ?? null,
    labels: workload?.labels ?? null,
    ports: null,
    isExternal: false,
    isUnauthenticated: false,
  };
}
