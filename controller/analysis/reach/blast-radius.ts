import type { Clock } from '../../../shared/policy/connection.js';
import type { EndClass } from '../pairs/party-classes.js';
import type { MeshParty } from '../pairs/mesh-party.js';
import { PairClasses } from '../pairs/pair-classes.js';
import { lastPort } from '../pairs/port-verdicts.js';
import { allowedPorts, type ReachedPorts } from './reachability.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** A reachable workload, by the shortest path. */
export type Reached = {
  /** `billing/db`, or `external 10.0.0.0/8`. */
  readonly name: string;
  /** 1: directly. */
  readonly hops: number;
  /** The workload at which the last hop starts. */
  readonly via: string;
  /** What allows the last hop. */
  readonly allowed: readonly ReachedPorts[];
};

/**
 * What an attacker who controls one workload can reach in at most `maxHops` steps by taking over each workload on the
 * path. Nearest first, then by name. An unregistered workload reaches nothing. Paths end outside the mesh.
 */
export function blastRadius({
  snapshot,
  entries,
  workload,
  maxHops,
  clock,
}: RuleSet & {
  /** `namespace/name`. */
  readonly workload: string;
  readonly maxHops: number;
  readonly clock: Clock;
}): Reached[] {
  const pairs = new PairClasses({ sets: [{ snapshot, entries }], clock });
  const sourcesOf = classesByName(pairs.sources);
  const reached = new Map<string, Reached>();
  const asked = new Set<EndClass>();
  let front = [workload];
  for (let hops = 1; hops <= maxHops && front.length > 0; hops++) {
    const next: string[] = [];
    for (const via of front) {
      for (const source of sourcesOf.get(via) ?? []) {
        if (asked.has(source)) continue;
        asked.add(source);
        for (const { end, allowed } of directlyReached(pairs, source)) {
          const name = end.party.workload === null ? `external ${end.name}` : end.name;
          if (name === workload || reached.has(name)) continue;
          reached.set(name, { name, hops, via, allowed });
          if (end.party.workload !== null) next.push(name);
        }
      }
    }
    front = next.sort();
  }
  return [...reached.values()].sort((a, b) => a.hops - b.hops || (a.name < b.name ? -1 : 1));
}

function* directlyReached(
  pairs: PairClasses,
  source: EndClass,
): Generator<{ end: MeshParty; allowed: ReachedPorts[] }> {
  for (const destination of pairs.destinations) {
    const verdicts = pairs.verdicts(source, destination)?.bySet[0];
    if (verdicts === undefined) continue;
    const isRuled = hasAgent(source) || hasAgent(destination);
    const allowed = isRuled ? allowedPorts(verdicts) : [unruled];
    if (allowed.length > 0) for (const end of destination.members) yield { end, allowed };
  }
}

/** Nothing is enforced between two ends without an agent. */
const unruled: ReachedPorts = { ports: [1, lastPort], rule: null, audited: [] };

/** All members of a class agree on this: classes distinguish ends by whether they have an agent. */
function hasAgent({ members }: EndClass): boolean {
  return members.some(({ isMeshed }) => isMeshed);
}

function classesByName(classes: readonly EndClass[]): Map<string, EndClass[]> {
  const byName = new Map<string, EndClass[]>();
  for (const candidate of classes) {
    for (const name of new Set(candidate.members.map((end) => end.name))) {
      const others = byName.get(name);
      if (others === undefined) byName.set(name, [candidate]);
      else others.push(candidate);
    }
  }
  return byName;
}
