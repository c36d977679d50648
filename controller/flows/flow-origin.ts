import { parseCidr } from '../../shared/address.js';
import type { WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { addressClass, outcomeOf, type FlowParty, type ReportedFlow } from '../../shared/wire/flows.js';
import type { NodeName, WorkloadName } from '../../shared/routing/names.js';
import type { WorkloadPlacements } from './workload-placements.js';

/**
 * Whether a node can have seen a flow. `own`: its own side of the flow is a workload of the node, with its registered
 * identity. `unknown`: nothing is known of where that workload ran; or it sent without an identity. `foreign`: the node cannot
 * have seen it.
 */
export type FlowOrigin = 'own' | 'unknown' | 'foreign';

/**
 * Judges flows. So a compromised agent cannot invent flows of other hosts' workloads. `atMs`: when the flow was reported;
 * null: at any time.
 */
export function flowOrigin(init: {
  readonly workload: (name: WorkloadName) => WorkloadEntry | undefined;
  readonly placements: Pick<WorkloadPlacements, 'ranOn' | 'knownSinceMs'>;
}): (node: NodeName, flow: ReportedFlow, atMs: number | null) => FlowOrigin {
  return (node, flow, atMs) => {
    const { direction, source, destination } = flow;
    const [own, other] = direction === 'outbound' ? [source, destination] : [destination, source];
    if (!isAsReported(own) || !isAsReported(other)) return 'foreign';
    // An agent with too many flows adds up the rest without names.
    if (own.workload === null) return isNameless(flow) ? 'own' : 'foreign';
    const entry = init.workload(own.workload);
    const isHere = entry?.node === node && (own.identity === null || own.identity === entry.identity);
    if (isHere || init.placements.ranOn({ node, workload: own.workload, identity: own.identity, atMs })) {
      // An agent knows the source's identity before it opens anything.
      const isUnproved = direction === 'outbound' && own.identity === null && outcomeOf(flow) === 'worked';
      return isUnproved ? 'unknown' : 'own';
    }
    const isBefore = atMs !== null && atMs < init.placements.knownSinceMs;
    return entry === undefined || isBefore ? 'unknown' : 'foreign';
  };
}

/** Agents name an address outside the mesh by its class: a wider network would stand for what they never saw. */
function isAsReported({ workload, cidr }: FlowParty): boolean {
  if (cidr === null) return true;
  const network = parseCidr(cidr);
  return workload === null && (network === undefined || addressClass(network.base) === cidr);
}

function isNameless({ source, destination, rule, audited }: ReportedFlow): boolean {
  const isBare = ({ workload, identity, cidr }: FlowParty): boolean =>
    workload === null && identity === null && cidr === null;
  return isBare(source) && isBare(destination) && rule === '' && audited.length === 0;
}
