import type { CompiledRule } from '../../../shared/policy/snapshot.js';
import { pinsOf } from '../../resources/match/peer-fields.js';

/** The namespaces that a destination must be in for the rule to match; null: any, or none. */
export function destinationNamespaces({ to }: Pick<CompiledRule, 'to'>): ReadonlySet<string> | null {
  const namespaces = new Set<string>();
  for (const match of to) {
    const [pinned] = pinsOf(match);
    if (pinned === undefined) return null;
    for (const namespace of pinned) namespaces.add(namespace);
  }
  return to.length === 0 ? null : namespaces;
}
