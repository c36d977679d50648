import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { ReportedFlow } from '../../shared/wire/flows.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * A function that says whether a node can have seen a flow: the end that is its own must not be a workload of another
 * node. So an agent that was taken over cannot invent what the workloads of other hosts do. A workload that is not
 * registered any more could have been anywhere.
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
