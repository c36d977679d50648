import type { Clock, Decision, RuleName } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';
import { possibleDecisions } from './possible-decisions.js';

/** The decision of a set of rules between two ends for a range of ports. */
export type PortVerdict = {
  readonly first: number;
  readonly last: number;
  readonly verdict: Decision['verdict'];
  readonly reason: Decision['reason'];
  readonly rule: RuleName;
  /** Rules that would have denied but are only audited. */
  readonly audited: readonly RuleName[];
};

export const lastPort = 65_535;

/**
 * The verdicts for ports 1 to 65535, evaluated once between each two cuts. For a network outside the mesh, a port is
 * allowed if it is allowed for some address, since a rule may be rolled out to a part of the sources.
 */
export function portVerdicts(input: {
  readonly snapshot: Snapshot;
  readonly source: MeshParty;
  readonly destination: MeshParty;
  /** Sorted, without duplicates. */
  readonly cuts: readonly number[];
  readonly clock: Clock;
}): PortVerdict[] {
  const { snapshot, source, destination, cuts, clock } = input;
  const firsts = [1, ...cuts.filter((cut) => cut > 1 && cut <= lastPort)];
  const verdicts: PortVerdict[] = [];
  for (const [index, first] of firsts.entries()) {
    const last = (firsts[index + 1] ?? lastPort + 1) - 1;
    const decision = mostPermissive(possibleDecisions(snapshot, { source, destination, port: first }, clock));
    const { verdict, reason } = decision;
    const next = {
      first,
      last,
      verdict,
      reason,
      rule: formatRuleRef(decision.rule),
      audited: decision.audited.map(formatRuleRef),
    };
    const previous = verdicts.at(-1);
    if (previous !== undefined && isSame(previous, next)) verdicts[verdicts.length - 1] = { ...previous, last };
    else verdicts.push(next);
  }
  return verdicts;
}

/** What some addresses of a network can reach, the network can reach. */
function mostPermissive(decisions: readonly Decision[]): Decision {
  return decisions.find(({ verdict }) => verdict === 'allow') ?? (decisions[0] as Decision);
}

function isSame(a: PortVerdict, b: PortVerdict): boolean {
  return (
    a.verdict === b.verdict && a.rule === b.rule && a.reason === b.reason && a.audited.join(' ') === b.audited.join(' ')
  );
}
