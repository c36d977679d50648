/** Sorts groups by whom they are about. Names are put together once each: a group may have thousands. */
export function sortGroups<T extends { readonly sources: readonly string[]; readonly destinations: readonly string[] }>(
  groups: readonly T[],
): T[] {
  return groups
    .map((group) => ({ group, key: `${group.destinations.join(',')} ${group.sources.join(',')}` }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ group }) => group);
}
