import type { Clock, RuleName } from '../../../shared/policy/connection.js';
import type { PortRange } from '../../../shared/policy/snapshot.js';
import { EndNames } from '../pairs/party-names.js';
import { groupPairs, sortGroups } from '../pairs/group-pairs.js';
import { PairClasses } from '../pairs/pair-classes.js';
import type { PortVerdict } from '../pairs/port-verdicts.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** Ports, and the rule that allows them. */
export type ReachedPorts = {
  readonly ports: PortRange;
  /** Null: neither side has an agent, so nothing is enforced. */
  readonly rule: RuleName | null;
  /** Rules that would deny but are only audited. */
  readonly audited: readonly RuleName[];
};

/** Each of the sources can reach each of the destinations on these ports. */
export type ReachGroup = {
  /** `billing/api`, with an address where the addresses of a workload differ; `external 10.0.0.0/8`. */
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly allowed: readonly ReachedPorts[];
};

/**
 * Which ends can reach others on which port. Ends that share no group cannot reach each other; a workload always reaches itself,
 * which is not listed. Pairs without an agent at either
 * end are left out, because no rule applies to them.
 */
export function reachability({ snapshot, entries, clock }: RuleSet & { readonly clock: Clock }): ReachGroup[] {
  const pairs = new PairClasses({ sets: [{ snapshot, entries }], clock });
  const names = new EndNames({ entries });
  const groups = groupPairs(pairs, ({ bySet: [verdicts = []] }) => {
    const allowed = allowedPorts(verdicts);
    return allowed.length === 0 ? null : { key: JSON.stringify(allowed), allowed };
  });
  return sortGroups(
    groups.map(({ sources, destinations, value }) => ({
      sources: names.of(sources),
      destinations: names.of(destinations),
      allowed: value.allowed,
    })),
  );
}

export function allowedPorts(verdicts: readonly PortVerdict[]): ReachedPorts[] {
  return verdicts
    .filter(({ verdict }) => verdict === 'allow')
    .map(({ first, last, rule, audited }) => ({ ports: [first, last], rule, audited }));
}
