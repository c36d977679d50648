import type { EndClass } from './party-classes.js';
import type { MeshParty } from './mesh-party.js';
import type { PairClasses, PairVerdicts } from './pair-classes.js';

/** Each source and each destination of a group have the same `value` between them. */
export type PairGroup<T> = {
  readonly sources: readonly MeshParty[];
  readonly destinations: readonly MeshParty[];
  readonly value: T;
};

/**
 * Groups all pairs by their value. `valueOf` is called once for each kind of pair; null leaves it out. Values with
 * equal `key` are equal.
 */
export function groupPairs<T extends { readonly key: string }>(
  pairs: PairClasses,
  valueOf: (verdicts: PairVerdicts) => T | null,
): PairGroup<T>[] {
  const values = new Map<number, T | null>();
  const groups = new Map<string, { sources: readonly EndClass[]; destinations: EndClass[]; value: T }>();
  const positions = new Map(pairs.sources.map((source, index) => [source, index]));
  for (const destination of pairs.destinations) {
    for (const { value, sources } of sourcesByValue(pairs, destination, values, valueOf)) {
      const key = `${sources.map((source) => positions.get(source)).join(',')} ${value.key}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { sources, destinations: [destination], value });
      else group.destinations.push(destination);
    }
  }
  return [...groups.values()].map(({ sources, destinations, value }) => ({
    sources: sources.flatMap(({ members }) => members),
    destinations: destinations.flatMap(({ members }) => members),
    value,
  }));
}

function sourcesByValue<T extends { readonly key: string }>(
  pairs: PairClasses,
  destination: EndClass,
  values: Map<number, T | null>,
  valueOf: (verdicts: PairVerdicts) => T | null,
): { value: T; sources: EndClass[] }[] {
  const found = new Map<string, { value: T; sources: EndClass[] }>();
  const verdictsTo = pairs.verdictsTo(destination);
  const isFromMeshOnly = isMeshless(destination);
  for (const [position, source] of pairs.sources.entries()) {
    const verdicts = verdictsTo[position];
    // Connections with neither end in the mesh pass no agent.
    if (verdicts === null || verdicts === undefined || (isFromMeshOnly && isMeshless(source))) continue;
    let value = values.get(verdicts.id);
    if (value === undefined) values.set(verdicts.id, (value = valueOf(verdicts)));
    if (value === null) continue;
    const entry = found.get(value.key);
    if (entry === undefined) found.set(value.key, { value, sources: [source] });
    else entry.sources.push(source);
  }
  return [...found.values()];
}

function isMeshless({ members }: EndClass): boolean {
  return members.every(({ isMeshed }) => !isMeshed);
}

/** Sorts groups by the names in them. Each name is built once: a group may have thousands. */
export function sortGroups<T extends { readonly sources: readonly string[]; readonly destinations: readonly string[] }>(
  groups: readonly T[],
): T[] {
  return groups
    .map((group) => ({ group, key: `${group.destinations.join(',')} ${group.sources.join(',')}` }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ group }) => group);
}
