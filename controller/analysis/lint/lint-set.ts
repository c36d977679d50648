import { isBreakGlass } from '../../resources/kinds/break-glass.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Clock } from '../../../shared/policy/connection.js';
import { commonConnection } from '../../compile/check/common-connection.js';
import { commonPorts } from '../../compile/check/common-ports.js';
import { NamedAddresses } from '../../compile/check/named-addresses.js';
import { overlapOfGroups } from '../../compile/check/group-overlap.js';
import { OtherActions } from '../../compile/check/other-actions.js';
import { OverlapIndex } from '../../compile/check/overlap-index.js';
import { requirementsOfRule } from '../../compile/check/requirements.js';
import { segmentMembersOf, type OpenRule } from '../../compile/segment-members.js';
import { meshWideExternals } from '../../../shared/policy/prepared/external-addresses.js';
import { tiers, type CompiledRule, type Snapshot } from '../../../shared/policy/snapshot.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import { lintKinds, type LintFinding } from './lint-finding.js';
import { lintUsage } from './lint-usage.js';
import { lintProofs } from './lint-proofs.js';
import { lintTraffic } from './lint-traffic.js';
import { lintPeers } from './lint-peers.js';
import { covers, shadows } from './rule-cover.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** Rules that expire within this time are reported. */
const soonMs = 7 * 24 * 3_600_000;
/** A longer list of overlaps would not help. */
const maxOverlaps = 50;

/**
 * Finds what is suspicious, but valid, in a set of rules: in the order of {@link lintKinds}, then in evaluation order.
 * Checks that need flow records are skipped when there are none.
 */
export function lintSet(
  input: RuleSet & {
    readonly clock: Clock;
    /** Recorded connections in the window; null: none. */
    readonly flows?: readonly FlowRecord[] | null;
    /** The documents, to find unused segments. */
    readonly resources?: readonly Resource[];
  },
): LintFinding[] {
  const { snapshot, clock, flows = null, resources = [] } = input;
  const members = segmentMembersOf(snapshot);
  const open = snapshot.rules.map((rule) => members.open(rule));
  const findings = [
    ...shadowed(open),
    ...overlapping(open, meshWideExternals(snapshot)),
    ...ending(
      snapshot.rules,
      new Set(resources.filter(isBreakGlass).map(({ metadata }) => metadata.name)),
      clock.nowMs(),
    ),
    ...lintPeers({ ...input, resources }),
    ...lintProofs(input),
    ...lintTraffic(input),
    ...(flows === null ? [] : lintUsage({ ...input, flows })),
  ];
  return findings.sort((a, b) => lintKinds.indexOf(a.kind) - lintKinds.indexOf(b.kind));
}

function shadowed(rules: readonly OpenRule[]): LintFinding[] {
  const required = rules.map(requirementsOfRule);
  // What matches all that a rule matches overlaps with it, too.
  const index = new OverlapIndex({ items: required.entries() });
  const passing = rules.filter(({ action, mode }) => action === 'pass' && mode !== 'audit');
  const positions = new Map(rules.map((rule, position) => [rule, position]));
  const isPassedBy = (earlier: OpenRule, later: OpenRule): boolean =>
    earlier.tier !== later.tier &&
    passing.some(
      (pass) =>
        pass.tier === earlier.tier &&
        (positions.get(pass) ?? 0) < (positions.get(earlier) ?? 0) &&
        commonPorts(pass.ports, later.ports) !== undefined &&
        overlaps(pass, later),
    );
  return rules.flatMap((rule, position): LintFinding[] => {
    const before = index.candidates(required[position] ?? noRequirements);
    const at = before.find((candidate) => {
      const earlier = candidate < position ? rules[candidate] : undefined;
      return earlier === undefined || (shadows(earlier, rule) && !isPassedBy(earlier, rule));
    });
    const earlier = at === undefined || at >= position ? undefined : rules[at];
    if (earlier === undefined) return [];
    const message = `never decides: ${earlier.action} of ${ref(earlier)} comes first and matches all that it matches`;
    const hint = earlier.action === rule.action ? 'delete it' : 'give it a lower priority, or delete it';
    return [{ kind: 'shadowed', severity: 'warning', resource: ref(rule), other: ref(earlier), message, hint }];
  });
}

const noRequirements = { values: new Map(), networks: new Map() };

/** Whether a connection that the later rule matches can be matched by the other. */
function overlaps(a: Pick<OpenRule, 'from' | 'to'>, b: Pick<OpenRule, 'from' | 'to'>): boolean {
  return overlapOfGroups(a.to, b.to) !== undefined && overlapOfGroups(a.from, b.from) !== undefined;
}

/** An exception before its general rule is the intended style; two rules that only overlap partly may be a mistake. */
function overlapping(rules: readonly OpenRule[], externals: Snapshot['externals']): LintFinding[] {
  const named = new NamedAddresses({ externals });
  const found = tiers.flatMap((tier) => {
    const ofTier = rules.filter((rule) => rule.tier === tier);
    return overlappingIn(ofTier, named);
  });
  return found.slice(0, maxOverlaps);
}

function overlappingIn(rules: readonly OpenRule[], named: NamedAddresses): LintFinding[] {
  const found: LintFinding[] = [];
  if (rules.every(({ action }) => action === rules[0]?.action)) return found;
  const others = new OtherActions({ rules });
  for (const [position, rule] of rules.entries()) {
    for (const at of others.mayOverlap(rule)) {
      const other = rules[at];
      if (found.length >= maxOverlaps) return found;
      if (other === undefined || at <= position) continue;
      const both = commonConnection(rule, other, named);
      if (both === undefined || isException(rule, other)) continue;
      const message = `${rule.action} wins over ${other.action} of ${ref(other)} for a connection from ${both.from} to ${both.to}, ${both.ports}`;
      const hint = 'make sure that the priorities are in the order that you mean';
      found.push({ kind: 'overlap', severity: 'info', resource: ref(rule), other: ref(other), message, hint });
    }
  }
  return found;
}

/** Compares only what the rules match, as if both had the same action. */
function isException(rule: OpenRule, other: OpenRule): boolean {
  return covers({ ...other, action: rule.action }, rule) || covers({ ...rule, action: other.action }, other);
}

/** `emergencies`: names of break-glass rules, which are meant to expire. */
function ending(rules: readonly CompiledRule[], emergencies: ReadonlySet<string>, nowMs: number): LintFinding[] {
  return rules.flatMap((rule): LintFinding[] => {
    const { expiresAtMs } = rule;
    if (expiresAtMs === null || expiresAtMs > nowMs + soonMs) return [];
    if (expiresAtMs <= nowMs && emergencies.has(rule.name)) return [];
    const at = new Date(expiresAtMs).toISOString();
    const place = { resource: ref(rule), other: null, severity: 'warning' } as const;
    return expiresAtMs <= nowMs
      ? [
          {
            ...place,
            kind: 'expired',
            message: `has expired at ${at}`,
            hint: 'delete it, or give it a later expiresAt',
          },
        ]
      : [
          {
            ...place,
            kind: 'expires soon',
            message: `expires at ${at}`,
            hint: 'give it a later expiresAt if it is still needed',
          },
        ];
  });
}

function ref({ name }: { readonly name: string }): string {
  return `SegmentationRule/${name}`;
}
