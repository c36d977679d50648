import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { ReportedFlow } from '../../shared/wire/flows.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Returns a function that says whether a node can have seen a flow: the node's own side of it must not be a workload that
 * is registered on another node. So a compromised agent cannot invent flows of other hosts' workloads. A workload that is
 * no longer registered may have been anywhere.
 */
export function flowOrigin(
  registered: (key: string) => RegistryEntry | undefined,
): (node: NodeName, flow: ReportedFlow) => boolean {
  return (node, { direction, source, destination }) => {
    const own = direction === 'outbound' ? source.workload : destination.workload;
    const entry = own === null ? undefined : registered(`workload.${own.replace('/', '.')}`);
    return entry?.kind !== 'workload' || entry.node === node;
  };
}
