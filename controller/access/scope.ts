import type { Tier } from '../../shared/policy/snapshot.js';
import { isBreakGlass } from '../resources/kinds/break-glass.js';
import type { Peer } from '../resources/kinds/peer.js';
import { resourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { SegmentationRule } from '../resources/kinds/segmentation-rule.js';

/** Which documents an editor may change. */
export type Scope = {
  /** Null: of all namespaces, and of the whole mesh. */
  readonly namespaces: readonly string[] | null;
  /** Of SegmentationRules. Null: `team` for an editor of some namespaces, all for others. */
  readonly tiers: readonly Tier[] | null;
  /** Whether rules with the break-glass mark are among them. */
  readonly mayBreakGlass: boolean;
};

export const everything: Scope = { namespaces: null, tiers: null, mayBreakGlass: true };

/** A document before and after a change; null: there is none. */
export type DocumentChange = { readonly before: Resource | null; readonly after: Resource | null };

/**
 * Why a change is outside of a scope; null: it is not. What is replaced counts like what replaces it: a rule of `platform`
 * does not become a team's because the team writes one with its name.
 */
export function outsideOf(scope: Scope, { before, after }: DocumentChange, rootNamespace: string): string | null {
  for (const resource of [before, after]) {
    const why = resource === null ? null : whyOutside(scope, resource, rootNamespace);
    if (why !== null) return why;
  }
  return null;
}

function whyOutside(scope: Scope, resource: Resource, rootNamespace: string): string | null {
  if (isBreakGlass(resource) && !scope.mayBreakGlass) return 'breaking glass is a right of its own';
  const { namespaces } = scope;
  const tiers = scope.tiers ?? (namespaces === null ? null : ownTiers);
  if (namespaces === null && tiers === null) return null;
  if (resource.kind === 'SegmentationRule') return whyRuleOutside(resource, tiers, namespaces);
  const { namespace } = resourceId(resource);
  // What a ServiceEntry names is external for no rule of the mesh any more.
  if (namespace === null || resource.kind === 'ServiceEntry') return 'it is about the whole mesh';
  if (namespaces !== null) return namespaces.includes(namespace) ? null : `it is in the namespace ${namespace}`;
  return namespace === rootNamespace ? 'in the root namespace it is about the whole mesh' : null;
}

const ownTiers: readonly Tier[] = ['team'];

function whyRuleOutside(
  rule: SegmentationRule,
  tiers: readonly Tier[] | null,
  namespaces: readonly string[] | null,
): string | null {
  const { tier, to, expiresAt } = rule.spec;
  // An emergency precedes all other rules, so it is of the tier platform, and it ends by itself.
  const isEmergency = isBreakGlass(rule) && expiresAt !== undefined;
  if (tiers !== null && !tiers.includes(tier) && !isEmergency) return `it is of the tier ${tier}`;
  if (namespaces === null) return null;
  const isWithin = (to ?? [{}]).every((peer) => namesOneOf(peer, namespaces));
  return isWithin ? null : 'not every destination in spec.to names one of these namespaces';
}

/** All fields of a peer must match, so one that names a namespace is enough. */
function namesOneOf({ namespace, workload, serviceAccount, service }: Peer, namespaces: readonly string[]): boolean {
  const named = [namespace, ...[workload, serviceAccount, service].map((name) => name?.split('/', 1)[0])];
  return named.some((name) => name !== undefined && namespaces.includes(name));
}

/** `namespaces a, b; tiers team; break glass`: for people. */
export function describeScope({ namespaces, tiers, mayBreakGlass }: Scope): string {
  const parts = [
    ...(namespaces === null ? [] : [`namespaces ${namespaces.join(', ')}`]),
    ...(tiers === null ? [] : [`tiers ${tiers.join(', ')}`]),
  ];
  return [parts.length === 0 ? 'everything' : parts.join('; '), ...(mayBreakGlass ? ['break glass'] : [])].join('; ');
}
