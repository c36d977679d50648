import type { IpAddress } from '../../../shared/address.js';
import type { Party, PartyWorkload } from '../../../shared/policy/connection.js';
import type { CidrRegion } from './cidr-regions.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { workloadName } from '../../../shared/routing/names.js';

/** One side of a hypothetical connection: who it is, and whether an agent captures it. */
export type MeshParty = {
  /** `billing/db`, or the address of an end outside the mesh. */
  readonly name: string;
  /** Its facts as a destination. As a source it proves its identity only when it is meshed. */
  readonly party: Party;
  /** An agent captures it: it proves its identity, and rules are enforced for it. */
  readonly isMeshed: boolean;
  /** It stands for a whole network. Its address is an example; the CIDRs in the rules do not distinguish the others. */
  readonly standsForMany?: boolean;
};

/** A registered workload at one of its addresses. */
export function workloadParty(entry: WorkloadEntry, ip: IpAddress): MeshParty {
  const { identity, protocol } = entry;
  return {
    name: workloadName(entry),
    party: { ip, identity, workload: partyWorkload(entry) },
    isMeshed: protocol === 'hbone',
  };
}

/** What rules ask of a registered workload. */
export function partyWorkload({ namespace, name, serviceAccount, labels, node, ports }: WorkloadEntry): PartyWorkload {
  return { namespace, name, serviceAccount, labels, node, ...(ports === undefined ? {} : { ports }) };
}

/** An address without a workload. */
export function externalParty(ip: IpAddress, name: string = ip): MeshParty {
  return { name, party: { ip, identity: null, workload: null }, isMeshed: false };
}

/** A network outside the mesh, or the part of one that no CIDR in the rules divides. */
export function regionParty({ address, isSingle }: CidrRegion, name: string): MeshParty {
  return { ...externalParty(address, name), standsForMany: !isSingle };
}
