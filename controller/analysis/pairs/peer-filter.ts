import { parseSpiffeId } from '../../../shared/identity.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { mayMatchRegistered } from '../../resources/match/registered-match.js';
import type { MeshParty } from './mesh-party.js';

/**
 * A quick answer to most questions of the kind "is this end one of the peers?": false only when it is certainly none,
 * whatever it proves. True means nothing but that the evaluator has to be asked.
 */
export function mayBeAnyOf(peers: readonly PeerMatch[]): (end: MeshParty) => boolean {
  const mayMatch = mayMatchRegistered(peers);
  return ({ party: { identity, workload } }) => {
    if (workload === null) {
      const proved = identity === null ? undefined : parseSpiffeId(identity);
      return mayMatch(proved === undefined ? null : { ...proved, workload: null });
    }
    // An identity that differs from the registry's is rare: leave it to the evaluator.
    if (identity !== null && !identity.endsWith(accountSuffix(workload))) return true;
    const { namespace, serviceAccount } = workload;
    return mayMatch({ namespace, serviceAccount, workload });
  };
}

function accountSuffix({ namespace, serviceAccount }: { namespace: string; serviceAccount: string }): string {
  return `/ns/${namespace}/sa/${serviceAccount}`;
}
