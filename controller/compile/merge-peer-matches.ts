import type { MatchFieldName } from '../../shared/policy/match-fields.js';
import type { PeerMatch } from '../../shared/policy/snapshot.js';
import type { ListField } from '../resources/match/peer-field.js';
import { peerFieldNames, peerFields } from '../resources/match/peer-fields.js';

const origins = peerFieldNames.filter((field) => peerFields[field].about === 'origin');

/**
 * Merges alternatives into fewer entries: matches that set only, for example, a service account become one match with a
 * list, and duplicates are dropped. A segment of a thousand accounts becomes one entry and one set look-up. The order
 * is canonical, so the order in which documents are written never shows in a snapshot.
 */
export function mergePeerMatches(matches: readonly PeerMatch[]): PeerMatch[] {
  const lists = new Map<
    string,
    { readonly match: PeerMatch; readonly field: ListField; readonly values: Set<string> }
  >();
  const merged = new Map<string, PeerMatch>();
  for (const match of matches) {
    const field = onlyListField(match);
    if (field === undefined) {
      merged.set(canonicalText(match), match);
      continue;
    }
    const key = JSON.stringify([field, ...origins.map((origin) => match[origin])]);
    const known = lists.get(key);
    const values = known?.values ?? new Set<string>();
    for (const value of match[field] ?? []) values.add(value);
    if (known === undefined) lists.set(key, { match, field, values });
  }
  for (const { match, field, values } of lists.values()) {
    const whole = { ...match, [field]: [...values].sort() };
    merged.set(canonicalText(whole), whole);
  }
  return [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, match]) => match);
}

/** The match without the segment or service that it came from. */
export function withoutOrigin(match: PeerMatch): PeerMatch {
  return Object.fromEntries(Object.entries(match).filter(([name]) => !origins.some((origin) => origin === name)));
}

function onlyListField(match: PeerMatch): ListField | undefined {
  const [field, ...others] = Object.keys(withoutOrigin(match)) as MatchFieldName[];
  return field === undefined || others.length > 0 || !peerFields[field].merges ? undefined : (field as ListField);
}

function canonicalText(match: PeerMatch): string {
  const fields = Object.entries(match).map(([name, value]) => [name, canonicalValue(value)] as const);
  return JSON.stringify(fields.sort(byName));
}

/** Sorts labels, so that the order in which they are written does not matter. */
function canonicalValue(value: PeerMatch[keyof PeerMatch]): unknown {
  if (typeof value !== 'object' || Array.isArray(value)) return value;
  return Object.entries(value).sort(byName);
}

function byName(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}
