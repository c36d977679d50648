import { parseSpiffeId } from '../../../shared/identity.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';

type Names = ReadonlySet<string> | null;

type Wanted = {
  readonly namespaces: Names;
  readonly accounts: Names;
  readonly workloads: Names;
  readonly nodes: Names;
  readonly labels: readonly (readonly [string, string])[];
};

/**
 * A quick answer to most questions of the kind "is this end one of the peers?": false only when it is certainly none,
 * whatever it proves. True means nothing but that the evaluator has to be asked.
 */
export function mayBeAnyOf(peers: readonly PeerMatch[]): (end: MeshParty) => boolean {
  const wanted = peers.map(toWanted);
  return ({ party: { identity, workload } }) => {
    const proved = workload === null && identity !== null ? parseSpiffeId(identity) : undefined;
    // An identity that differs from the registry's is rare: leave it to the evaluator.
    if (workload !== null && identity !== null && !identity.endsWith(accountSuffix(workload))) return true;
    const party = workload ?? proved;
    const namespace = party?.namespace ?? null;
    const account = party === undefined ? null : `${party.namespace}/${party.serviceAccount}`;
    const name = workload === null ? null : `${workload.namespace}/${workload.name}`;
    return wanted.some(
      ({ namespaces, accounts, workloads, nodes, labels }) =>
        mayBe(namespaces, namespace) &&
        mayBe(accounts, account) &&
        mayBe(workloads, name) &&
        mayBe(nodes, workload?.node ?? null) &&
        labels.every(([label, value]) => workload?.labels[label] === value),
    );
  };
}

function toWanted({ namespaces, serviceAccounts, workloads, nodes, labels = {} }: PeerMatch): Wanted {
  const names = (list: readonly string[] | undefined): Names => (list === undefined ? null : new Set(list));
  return {
    namespaces: names(namespaces),
    accounts: names(serviceAccounts),
    workloads: names(workloads),
    nodes: names(nodes),
    labels: Object.entries(labels),
  };
}

function mayBe(wanted: Names, name: string | null): boolean {
  return wanted === null || (name !== null && wanted.has(name));
}

function accountSuffix({ namespace, serviceAccount }: { namespace: string; serviceAccount: string }): string {
  return `/ns/${namespace}/sa/${serviceAccount}`;
}
