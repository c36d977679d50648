import { formatSpiffeId, parseSpiffeId, type SpiffeId } from '../../shared/identity.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';

/** No mesh has this trust domain (RFC 2606, section 2), so no certificate proves an identity of it. */
const trustDomain = 'removed-node.culvert.invalid';

/**
 * The entry as it is published while its node is removed. Its addresses stay in the mesh, and it keeps its names and labels
 * for rules; but agents find another identity than the one that its old certificates prove. So they refuse it, and cut what is
 * open. Agents of every version do.
 */
export function withoutIdentity(entry: RegistryEntry, removed: ReadonlySet<NodeName>): RegistryEntry {
  if (entry.kind !== 'workload' || entry.node === null || !removed.has(entry.node)) return entry;
  const { namespace, serviceAccount } = entry;
  return { ...entry, identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }) };
}

/** Whether an entry has it in place of its own. */
export function isWithdrawn(identity: SpiffeId): boolean {
  return parseSpiffeId(identity)?.trustDomain === trustDomain;
}
