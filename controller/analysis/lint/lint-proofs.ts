import type { Clock } from '../../../shared/policy/connection.js';
import { workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import { missingProofHint } from '../pairs/missing-proof.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { Selectors, type Selector } from '../pairs/selectors.js';
import type { LintFinding } from './lint-finding.js';

/** A longer list would not help. */
const maxFindings = 50;

/**
 * Finds registered workloads without an agent that rules would allow if they proved an identity. They prove none, so the
 * allowance does not hold for them; in Kubernetes, which goes by addresses, a NetworkPolicy would.
 */
export function lintProofs({ snapshot, entries, clock }: RuleSet & { readonly clock: Clock }): LintFinding[] {
  const unproved = entries.flatMap((entry) => {
    const [ip] = entry.kind === 'workload' && entry.protocol === 'tcp' ? entry.addresses : [];
    return ip === undefined || entry.kind !== 'workload' ? [] : [workloadParty(entry, ip)];
  });
  if (unproved.length === 0) return [];
  const findings: LintFinding[] = [];
  const asked = allowances({ snapshot, entries }, clock);
  for (const end of unproved) {
    const allowing = asked.filter(({ selector }) => isOnlyByProof(selector, end)).map(({ resource }) => resource);
    const [first, ...others] = new Set(allowing);
    if (first === undefined) continue;
    const more = others.length === 0 ? '' : ` and ${others.length} more`;
    const message = `has no agent and proves no identity, so ${first}${more} can name it as a source and never allows it`;
    const resource = `Workload/${end.name}`;
    findings.push({
      kind: 'no identity',
      severity: 'warning',
      resource,
      other: first,
      message,
      hint: missingProofHint,
    });
    if (findings.length >= maxFindings) break;
  }
  return findings;
}

type Allowance = { readonly resource: string; readonly selector: Selector };

/** What can allow a source by more than its address. */
function allowances({ snapshot }: RuleSet, clock: Clock): Allowance[] {
  const selectors = new Selectors({ snapshot, clock });
  const rules = snapshot.rules
    .filter(({ action, mode }) => action === 'allow' && mode === 'enforce')
    .map(({ name, from }) => ({
      resource: `SegmentationRule/${name}`,
      selector: selectors.peers('source', from, false),
    }));
  const authorizations = snapshot.authorizationPolicies
    .filter(({ action }) => action === 'ALLOW')
    .flatMap(({ namespace, name, rules: parts }) =>
      parts.map(({ from }) => ({
        resource: `AuthorizationPolicy/${namespace}/${name}`,
        selector: selectors.authorizationSource(from),
      })),
    );
  const networks = snapshot.networkPolicies.flatMap(({ namespace, name, ingress }) =>
    (ingress ?? []).map(({ peers }) => ({
      resource: `NetworkPolicy/${namespace}/${name}`,
      selector: selectors.networkPeers('source', namespace, peers),
    })),
  );
  const clusters = (snapshot.clusterPolicies ?? []).flatMap(({ kind, name, ingress }) =>
    ingress
      .filter(({ action }) => action === 'accept')
      .map(({ peers }) => ({
        resource: `${kind}/${name}`,
        selector: selectors.networkPeers('source', 'none', peers),
      })),
  );
  return [...rules, ...authorizations, ...networks, ...clusters].flatMap(({ resource, selector }) =>
    selector === null ? [] : [{ resource, selector }],
  );
}

function isOnlyByProof({ namespaces, selects }: Selector, end: MeshParty): boolean {
  if (namespaces !== null && !namespaces.has(end.party.workload?.namespace ?? '')) return false;
  return selects({ ...end, isMeshed: true }) && !selects(end);
}
