import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { FieldWith, ListField, MatchSubject, Overlap } from './peer-field.js';

type Labels = Readonly<Record<string, string>>;

/** Common parts of rows by kind of value. This one: a list of alternatives for a fact that a party has at most once. */
export function nameField(field: ListField) {
  return {
    about: 'workload',
    merges: true,
    pinnedNamespaces: null,
    covers: ({ [field]: outer }: PeerMatch, { [field]: inner }: PeerMatch) =>
      outer === undefined || (inner !== undefined && inner.every((name) => outer.includes(name))),
  } as const;
}

export function labelField(field: FieldWith<Labels>, about: MatchSubject, words: string) {
  return {
    about,
    merges: false,
    pinnedNamespaces: null,
    overlap: (a: PeerMatch, b: PeerMatch): Overlap => {
      const merged = new Map(Object.entries(a[field] ?? {}));
      for (const [name, value] of Object.entries(b[field] ?? {})) {
        if ((merged.get(name) ?? value) !== value) return null;
        merged.set(name, value);
      }
      return merged.size === 0 ? undefined : `${words} ${labelText(Object.fromEntries(merged))}`;
    },
    covers: ({ [field]: outer }: PeerMatch, { [field]: inner }: PeerMatch) =>
      Object.entries(outer ?? {}).every(([label, value]) => inner?.[label] === value),
  } as const;
}

export function flagField(field: FieldWith<true>) {
  return {
    about: 'outsider',
    merges: false,
    pinnedNamespaces: null,
    covers: (outer: PeerMatch, inner: PeerMatch) => outer[field] === undefined || inner[field] === true,
    changes: noChange,
  } as const;
}

/** The origin of a match, which decides nothing. */
export function originField() {
  return {
    about: 'origin',
    merges: false,
    pinnedNamespaces: null,
    overlap: noRequirement,
    covers: () => true,
    changes: noChange,
  } as const;
}

export function noChange(): [] {
  return [];
}

export function noRequirement(): undefined {
  return undefined;
}

/** Undefined stands for every value. */
export function intersect(
  a: readonly string[] | undefined,
  b: readonly string[] | undefined,
): readonly string[] | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const others = new Set(b);
  return a.filter((value) => others.has(value));
}

export function namespaceOf(namespacedName: string): string {
  return namespacedName.slice(0, namespacedName.indexOf('/'));
}

export function labelText(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}
