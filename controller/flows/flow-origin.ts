import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { ReportedFlow } from '../../shared/wire/flows.js';
import { workloadName, type NodeName } from '../../shared/routing/names.js';

/**
 * A function that says whether a node can have seen a flow: the end that is its own must not be a workload of another
 * node. So an agent that was taken over cannot invent what the workloads of other hosts do. A workload that is not
 * registered any more could have been anywhere.
 */
export function flowOrigin(entries: () => readonly RegistryEntry[]): (node: NodeName, flow: ReportedFlow) => boolean {
  let known: readonly RegistryEntry[] | null = null;
  let nodes = new Map<string, string | null>();
  return (node, { direction, source, destination }) => {
    const current = entries();
    if (current !== known) {
      known = current;
      nodes = nodesOfWorkloads(current);
    }
    const own = direction === 'outbound' ? source.workload : destination.workload;
    const registered = own === null ? undefined : nodes.get(own);
    return registered === undefined || registered === node;
  };
}

function nodesOfWorkloads(entries: readonly RegistryEntry[]): Map<string, string | null> {
  const nodes = new Map<string, string | null>();
  for (const entry of entries) {
    if (entry.kind === 'workload') nodes.set(workloadName(entry), entry.node);
  }
  return nodes;
}
