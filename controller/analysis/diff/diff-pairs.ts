import type { Clock, RuleName } from '../../../shared/policy/connection.js';
import type { PortRange } from '../../../shared/policy/snapshot.js';
import { EndNames } from '../pairs/party-names.js';
import { groupPairs, sortGroups } from '../pairs/group-pairs.js';
import type { MeshParty } from '../pairs/mesh-party.js';
import { PairClasses } from '../pairs/pair-classes.js';
import { lastPort, type PortVerdict } from '../pairs/port-verdicts.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { workloadName } from '../../../shared/routing/names.js';

/** Ports on which the decision for a pair changes. */
export type PortChange = {
  readonly ports: PortRange;
  readonly change: 'denied' | 'allowed';
  /** The rule that decides before the change, and the one that decides after it. */
  readonly before: RuleName;
  readonly after: RuleName;
};

/** The changes apply from each of the sources to each of the destinations. */
export type PairChange = {
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly changes: readonly PortChange[];
};

/** Ports, what is decided for them, and the rule that decides. */
export type PortOutcome = {
  readonly ports: PortRange;
  readonly verdict: 'allow' | 'deny';
  readonly rule: RuleName;
};

/** The outcomes apply from each of the sources to each of the destinations. */
export type PairOutcome = {
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly outcomes: readonly PortOutcome[];
};

export type PairDiff = {
  readonly changed: readonly PairChange[];
  /** Workloads (`namespace/name`) that only one of the two registries has. Their pairs have no decision to compare with. */
  readonly addedWorkloads: readonly string[];
  readonly removedWorkloads: readonly string[];
  /** What is decided after the change for pairs with an added workload. */
  readonly ofAdded: readonly PairOutcome[];
};

/** Finds the pairs that would be newly denied or newly allowed, on which ports and by which rule. */
export function diffPairs({ before, after, clock }: { before: RuleSet; after: RuleSet; clock: Clock }): PairDiff {
  const pairs = new PairClasses({ sets: [before, after], clock });
  const names = new EndNames({ entries: before.entries });
  const groups = groupPairs(pairs, ({ bySet: [old = [], fresh = []] }) => {
    const changes = changesBetween(old, fresh);
    return changes.length === 0 ? null : { key: JSON.stringify(changes), changes };
  });
  const changed = groups.map(({ sources, destinations, value }) => ({
    sources: names.of(sources),
    destinations: names.of(destinations),
    changes: value.changes,
  }));
  const [oldNames, newNames] = [workloadNames(before), workloadNames(after)];
  const addedWorkloads = [...newNames].filter((name) => !oldNames.has(name)).sort();
  return {
    changed: sortGroups(changed),
    addedWorkloads,
    removedWorkloads: [...oldNames].filter((name) => !newNames.has(name)).sort(),
    ofAdded: outcomesOf(new Set(addedWorkloads), after, clock),
  };
}

/** The decisions for all pairs of which one side, or both, is one of these workloads. */
function outcomesOf(added: ReadonlySet<string>, after: RuleSet, clock: Clock): PairOutcome[] {
  if (added.size === 0) return [];
  const isAdded = ({ name, party }: MeshParty): boolean => party.workload !== null && added.has(name);
  const names = new EndNames({ entries: after.entries });
  const groups = groupPairs(new PairClasses({ sets: [after], clock }), ({ bySet: [verdicts = []] }) => {
    const outcomes = verdicts.map(({ first, last, verdict, rule }): PortOutcome => ({
      ports: [first, last],
      verdict,
      rule,
    }));
    return { key: JSON.stringify(outcomes), outcomes };
  });
  const found = groups.flatMap(({ sources, destinations, value: { outcomes } }) => {
    const parts: readonly (readonly [from: readonly MeshParty[], to: readonly MeshParty[]])[] = [
      [sources.filter(isAdded), destinations],
      [sources.filter((end) => !isAdded(end)), destinations.filter(isAdded)],
    ];
    return parts.flatMap(([from, to]) => {
      const part = { sources: names.of(from), destinations: names.of(to), outcomes };
      return from.length === 0 || to.length === 0 || isOneWorkload([...from, ...to]) ? [] : [part];
    });
  });
  return sortGroups(found);
}

/** Nothing is decided of what a workload sends to itself. */
function isOneWorkload(ends: readonly MeshParty[]): boolean {
  return ends.every(({ name, party }) => party.workload !== null && name === ends[0]?.name);
}

function changesBetween(before: readonly PortVerdict[], after: readonly PortVerdict[]): PortChange[] {
  const changes: PortChange[] = [];
  let first = 1;
  for (let [i, j] = [0, 0]; first <= lastPort;) {
    const [old, fresh] = [before[i], after[j]];
    if (old === undefined || fresh === undefined) break;
    const last = Math.min(old.last, fresh.last);
    if (old.verdict !== fresh.verdict) {
      const change = fresh.verdict === 'deny' ? 'denied' : 'allowed';
      changes.push({ ports: [first, last], change, before: old.rule, after: fresh.rule });
    }
    first = last + 1;
    if (old.last === last) i++;
    if (fresh.last === last) j++;
  }
  return changes;
}

function workloadNames({ entries }: RuleSet): Set<string> {
  return new Set(entries.filter(({ kind }) => kind === 'workload').map(workloadName));
}
