import type { Tier } from '../../shared/policy/snapshot.js';
import { isBreakGlass } from '../resources/kinds/break-glass.js';
import { parseInstant } from '../resources/kinds/instant.js';
import type { Peer } from '../resources/kinds/peer.js';
import { resourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import { parseTestParty } from '../resources/kinds/rule-test.js';
import type { SegmentationRule } from '../resources/kinds/segmentation-rule.js';
import { whyUnenforced } from './enforcement-change.js';

/** Which documents an editor may change. */
export type Scope = {
  /** Null: of all namespaces, and of the whole mesh. */
  readonly namespaces: readonly string[] | null;
  /** Of SegmentationRules. Null: `team` for an editor of some namespaces, all for others. */
  readonly tiers: readonly Tier[] | null;
  /** Whether rules with the break-glass mark are among them. */
  readonly mayBreakGlass: boolean;
  /** Whether Workloads in it may be deleted also without the tier `platform`, whose rules then no longer hold for them. */
  readonly mayDeleteWorkloads: boolean;
};

export const everything: Scope = { namespaces: null, tiers: null, mayBreakGlass: true, mayDeleteWorkloads: true };

/** A document before and after a change; null: there is none. */
export type DocumentChange = { readonly before: Resource | null; readonly after: Resource | null };

/** The mesh that a change is made in, and when. */
export type Situation = { readonly rootNamespace: string; readonly nowMs: number };

/**
 * Why a change is outside of a scope; null: it is not. What is replaced counts like what replaces it: a rule of `platform`
 * does not become a team's because the team writes one with its name.
 */
export function outsideOf(scope: Scope, { before, after }: DocumentChange, situation: Situation): string | null {
  for (const resource of [before, after]) {
    const why = resource === null ? null : whyOutside(scope, resource, situation);
    if (why !== null) return why;
  }
  if (tiersOf(scope)?.includes('platform') !== false) return null;
  return scope.mayDeleteWorkloads && isDeletedWorkload(before, after) ? null : whyUnenforced(before, after);
}

/** One that has an agent: the addresses of one without are as those of a ServiceEntry. */
function isDeletedWorkload(before: Resource | null, after: Resource | null): boolean {
  if (before?.kind !== 'Workload' || after !== null) return false;
  return before.spec.node !== undefined && before.spec.netns !== undefined;
}

function whyOutside(scope: Scope, resource: Resource, { rootNamespace, nowMs }: Situation): string | null {
  if (isBreakGlass(resource) && !scope.mayBreakGlass) return 'breaking glass is a right of its own';
  const { namespaces } = scope;
  const tiers = tiersOf(scope);
  if (namespaces === null && tiers === null) return null;
  if (resource.kind === 'SegmentationRule') {
    return whyTierOutside(resource, tiers, nowMs) ?? whyDestinationOutside(resource, namespaces);
  }
  const { namespace } = resourceId(resource);
  // What a ServiceEntry of the root namespace names is external for no rule of the mesh any more, and rules of all name them.
  if (namespace === null || resource.kind === 'ServiceEntry') return 'it is about the whole mesh';
  if (namespaces !== null) return namespaces.includes(namespace) ? null : `it is in the namespace ${namespace}`;
  return namespace === rootNamespace ? 'in the root namespace it is about the whole mesh' : null;
}

/** Null: all tiers. */
function tiersOf({ namespaces, tiers }: Scope): readonly Tier[] | null {
  return tiers ?? (namespaces === null ? null : ownTiers);
}

const ownTiers: readonly Tier[] = ['team'];

/** How long a rule of the tier platform may be in force that only the right to break glass allows. */
const longestEmergencyMs = 24 * 3_600_000;
/** Of the clock of `culvert allow`, which computes the end, ahead of the controller's. */
const clockToleranceMs = 60_000;

function whyTierOutside(
  { metadata, spec }: SegmentationRule,
  tiers: readonly Tier[] | null,
  nowMs: number,
): string | null {
  const { tier, expiresAt } = spec;
  if (tiers === null || tiers.includes(tier)) return null;
  // An emergency precedes all other rules, so it is of the tier platform, and it ends by itself.
  if (!isBreakGlass({ metadata }) || expiresAt === undefined) return `it is of the tier ${tier}`;
  const leftMs = (parseInstant(expiresAt) ?? Infinity) - nowMs;
  if (leftMs <= longestEmergencyMs + clockToleranceMs) return null;
  return `it is of the tier ${tier} and expires later than in 24 h, the most that the right to break glass allows`;
}

function whyDestinationOutside({ spec }: SegmentationRule, namespaces: readonly string[] | null): string | null {
  if (namespaces === null) return null;
  const { to = [{}], tests = [] } = spec;
  if (!to.every((peer) => namesOneOf(peer, namespaces))) {
    return 'not every destination in spec.to names one of these namespaces';
  }
  // A test is a veto: it refuses the changes of others after which it fails.
  const isOwn = tests.every((ruleTest) => {
    const party = parseTestParty(ruleTest.to);
    return party !== undefined && 'name' in party && namespaces.includes(namespaceIn(party.name));
  });
  return isOwn ? null : 'not every destination in spec.tests names one of these namespaces';
}

/** All fields of a peer must match, so one that names a namespace is enough. */
function namesOneOf({ namespace, workload, serviceAccount, service }: Peer, namespaces: readonly string[]): boolean {
  const named = [
    namespace,
    ...[workload, serviceAccount, service].map((name) => (name === undefined ? name : namespaceIn(name))),
  ];
  return named.some((name) => name !== undefined && namespaces.includes(name));
}

/** Of `NAMESPACE/NAME`. */
function namespaceIn(name: string): string {
  return name.split('/', 1)[0] ?? '';
}

/** `namespaces a, b; tiers team; break glass`: for people. */
export function describeScope({ namespaces, tiers, mayBreakGlass, mayDeleteWorkloads }: Scope): string {
  const parts = [
    ...(namespaces === null ? [] : [`namespaces ${namespaces.join(', ')}`]),
    ...(tiers === null ? [] : [`tiers ${tiers.join(', ')}`]),
  ];
  const isScoped = parts.length > 0;
  return [
    isScoped ? parts.join('; ') : 'everything',
    ...(mayBreakGlass ? ['break glass'] : []),
    ...(mayDeleteWorkloads && isScoped ? ['delete workloads'] : []),
  ].join('; ');
}
