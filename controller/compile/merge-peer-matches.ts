import type { PeerMatch } from '../../shared/policy/snapshot.js';

const listFields = ['namespaces', 'serviceAccounts', 'workloads', 'nodes', 'cidrs'] as const;
type ListField = (typeof listFields)[number];

/**
 * The same alternatives in fewer entries: those that name nothing but, say, a service account become one with a list,
 * and duplicates go. A segment of a thousand accounts is one entry and one set look-up. The order is canonical, so that
 * the order in which people write never shows in a snapshot.
 */
export function mergePeerMatches(matches: readonly PeerMatch[]): PeerMatch[] {
  const merged = new Map<string, PeerMatch>();
  for (const match of matches) {
    const field = onlyListField(match);
    if (field === undefined) {
      merged.set(canonicalText(match), match);
      continue;
    }
    const key = `${field} ${match.segment ?? ''} ${match.service ?? ''}`;
    const values = new Set([...(merged.get(key)?.[field] ?? []), ...(match[field] ?? [])]);
    merged.set(key, { ...match, [field]: [...values].sort() });
  }
  return [...merged.values()].sort(byCanonicalText);
}

function onlyListField(match: PeerMatch): ListField | undefined {
  const fields = Object.keys(match).filter((name) => name !== 'segment' && name !== 'service');
  return fields.length === 1 ? listFields.find((name) => name === fields[0]) : undefined;
}

function canonicalText(match: PeerMatch): string {
  const fields = Object.entries(match).map(([name, value]) => [name, canonicalValue(value)] as const);
  return JSON.stringify(fields.sort(byName));
}

/** Labels sorted, so that the order in which they were written does not count. */
function canonicalValue(value: PeerMatch[keyof PeerMatch]): unknown {
  if (typeof value !== 'object' || Array.isArray(value)) return value;
  return Object.entries(value).sort(byName);
}

function byName(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}

function byCanonicalText(a: PeerMatch, b: PeerMatch): number {
  const [textA, textB] = [canonicalText(a), canonicalText(b)];
  return textA < textB ? -1 : textA > textB ? 1 : 0;
}
