import { parseSpiffeId } from '../../../shared/identity.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { mayMatchRegistered } from '../../resources/match/registered-match.js';
import type { MeshParty } from './mesh-party.js';

/**
 * A fast pre-filter for "does this end match one of the peers?". False: certainly not, whatever the end proves. True:
 * ask the evaluator.
 */
export function mayBeAnyOf(peers: readonly PeerMatch[]): (end: MeshParty) => boolean {
  const mayMatch = mayMatchRegistered(peers);
  return ({ party: { identity, workload } }) => {
    if (workload === null) {
      const proved = identity === null ? undefined : parseSpiffeId(identity);
      return mayMatch(proved === undefined ? null : { ...proved, workload: null });
    }
    // Identities that differ from the registry's are rare; the evaluator decides.
    if (identity !== null && !identity.endsWith(accountSuffix(workload))) return true;
    const { namespace, serviceAccount } = workload;
    return mayMatch({ namespace, serviceAccount, workload });
  };
}

function accountSuffix({ namespace, serviceAccount }: { namespace: string; serviceAccount: string }): string {
  return `/ns/${namespace}/sa/${serviceAccount}`;
}
