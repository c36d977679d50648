import type { Resource } from '../../resources/kinds/resource.js';
import type { Clock } from '../../../shared/policy/connection.js';
import { peerNamespaces } from '../../compile/check/peer-namespaces.js';
import { segmentMembersOf } from '../../compile/segment-members.js';
import { isSegmentRef, type RulePeer } from '../../../shared/policy/snapshot.js';
import { mayBeUnregistered } from '../../resources/match/peer-fields.js';
import type { LintFinding } from './lint-finding.js';
import { workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { Selectors, type Side } from '../pairs/selectors.js';

/**
 * Finds peers and segments without a registered workload. Those that also include addresses or parties outside the mesh
 * are never empty.
 */
export function lintPeers(
  input: RuleSet & { readonly clock: Clock; readonly resources: readonly Resource[] },
): LintFinding[] {
  const { snapshot, entries, clock, resources } = input;
  const selectors = new Selectors({ snapshot, clock });
  const members = segmentMembersOf(snapshot);
  const ends = entries.flatMap((entry) =>
    entry.kind === 'workload' ? entry.addresses.map((ip) => workloadParty(entry, ip)) : [],
  );
  const byNamespace = new Map<string, MeshParty[]>();
  for (const end of ends) {
    const namespace = end.party.workload?.namespace ?? '';
    const others = byNamespace.get(namespace);
    if (others === undefined) byNamespace.set(namespace, [end]);
    else others.push(end);
  }
  // All questions before the first answer: they are put to the evaluator together.
  for (const { from, to } of snapshot.rules) {
    selectors.peers('source', from, true);
    selectors.peers('destination', to, false);
  }
  const known = new Map<string, boolean>();
  const isEmpty = (peers: readonly RulePeer[], side: Side): boolean => {
    const selector = selectors.peers(side, peers, side === 'source');
    if (selector === null) return false;
    // Thousands of rules use the same few peers.
    let answer = known.get(selector.key);
    if (answer === undefined) {
      const matches = [...members.matchesOf(peers)];
      const namespaces = peerNamespaces(matches);
      const candidates = namespaces === null ? ends : [...namespaces].flatMap((name) => byNamespace.get(name) ?? []);
      answer = !matches.some(mayBeUnregistered) && !candidates.some((end) => selector.selects(end));
      known.set(selector.key, answer);
    }
    return answer;
  };
  const findings = snapshot.rules.flatMap(({ name, from, to }) =>
    [
      { field: 'from', peers: from, side: 'source' },
      { field: 'to', peers: to, side: 'destination' },
    ].flatMap(({ field, peers, side }): LintFinding[] => {
      if (!isEmpty(peers, side as Side)) return [];
      const message = `\`${field}\` matches no registered workload, so the rule does nothing`;
      return [
        nothing('matches nothing', `SegmentationRule/${name}`, message, 'correct the names or labels, or delete it'),
      ];
    }),
  );
  return [...findings, ...emptySegments(input, isEmpty), ...unusedSegments(resources)];
}

function emptySegments(
  { snapshot }: RuleSet,
  isEmpty: (peers: readonly RulePeer[], side: Side) => boolean,
): LintFinding[] {
  const members = new Map<string, Map<string, RulePeer>>();
  for (const { from, to } of snapshot.rules) {
    for (const peer of [...from, ...to]) {
      const segment = isSegmentRef(peer) ? peer.memberOf : peer.segment;
      if (segment === undefined) continue;
      const others = members.get(segment);
      if (others === undefined) members.set(segment, new Map([[JSON.stringify(peer), peer]]));
      else others.set(JSON.stringify(peer), peer);
    }
  }
  const empty = [...members]
    .filter(([, peers]) => isEmpty([...peers.values()], 'destination'))
    .map(([segment]) => segment);
  return empty
    .sort()
    .map((segment) =>
      nothing('empty segment', `Segment/${segment}`, 'no registered workload is in it', 'correct its members'),
    );
}

function unusedSegments(resources: readonly Resource[]): LintFinding[] {
  const used = new Set<string>();
  for (const resource of resources) {
    if (resource.kind === 'Segment')
      for (const { segment } of resource.spec.members) if (segment !== undefined) used.add(segment);
    if (resource.kind !== 'SegmentationRule') continue;
    for (const { segment } of [...(resource.spec.from ?? []), ...(resource.spec.to ?? [])]) {
      if (segment !== undefined) used.add(segment);
    }
  }
  return resources
    .filter((resource) => resource.kind === 'Segment' && !used.has(resource.metadata.name))
    .map(({ metadata }) => ({
      ...nothing('unused segment', `Segment/${metadata.name}`, 'no rule uses it', 'use it or delete it'),
      severity: 'info' as const,
    }));
}

function nothing(kind: LintFinding['kind'], resource: string, message: string, hint: string): LintFinding {
  return { kind, severity: 'warning', resource, other: null, message, hint };
}
