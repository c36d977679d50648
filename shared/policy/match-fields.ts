import type { Cidr } from '../address.js';
import { CulvertError } from '../errors.js';
import type { PartyFacts } from './connection-facts.js';
import { hasLabels, readCidr, readNetworks } from './prepared/conditions.js';
import type { PeerMatch } from './snapshot.js';

export type MatchFieldName = keyof PeerMatch;
export type MatchValue<F extends MatchFieldName> = NonNullable<PeerMatch[F]>;

/** Whether one side of a connection satisfies a field. A fact that is not known never does. */
export type Condition = (facts: PartyFacts) => boolean;

/** What both the agent and the controller need for one field of {@link PeerMatch}. */
export type MatchField<V> = {
  /** The form of its value; the wire schema is made from it. */
  readonly form: ValueForm<V>;
  /**
   * Null: the field is only an explanation and matches everything. Throws CulvertError `SNAPSHOT_INVALID` for a value
   * that cannot be read.
   */
  readonly prepare: ((value: V) => Condition) | null;
  /** How an index finds the matches that can hold for a side; null: the field is not indexed. */
  readonly index: NameIndexing<V> | NetworkIndexing<V> | null;
  /** Text that reads well after "is" or "is not". */
  readonly describe: (value: V) => string;
};

/** A new form needs an entry here and one in the wire schema. */
export type ValueForm<V> = V extends readonly string[]
  ? 'names'
  : V extends true
    ? 'flag'
    : V extends string
      ? 'text'
      : V extends Readonly<Record<string, string>>
        ? 'labels'
        : never;

type NameIndexing<V> = {
  readonly by: 'name';
  /** Sets of keys. A side that satisfies the field has at least one key of each set. */
  readonly keysOf: (value: V) => readonly (readonly string[])[];
  /** Calls `visit` with each key of a side. */
  readonly forEachKey: (facts: PartyFacts, visit: (key: string) => void) => void;
};

type NetworkIndexing<V> = { readonly by: 'network'; readonly networksOf: (value: V) => readonly Cidr[] };

type Names = readonly string[];
type Labels = Readonly<Record<string, string>>;

/**
 * One row for each field of {@link PeerMatch}, in the order in which fields are described. A field without a row does
 * not compile. What only the controller needs (document schema, overlap, cover) is in a second table,
 * `controller/resources/match/peer-fields.ts`.
 */
export const matchFields: { readonly [F in keyof Required<PeerMatch>]: MatchField<MatchValue<F>> } = {
  workloads: nameField('workload', (facts) => facts.workload),
  serviceAccounts: nameField('service account', (facts) => facts.serviceAccount),
  namespaces: nameField('in namespace', (facts) => facts.namespace),
  labels: {
    form: 'labels',
    prepare: (labels) => {
      const wanted = Object.entries(labels);
      return (facts) => hasLabels(wanted, facts.labels);
    },
    index: {
      by: 'name',
      keysOf: (labels) => Object.entries(labels).map(([name, value]) => [`label ${name}=${value}`]),
      forEachKey: ({ labels }, visit) => {
        for (const [name, value] of Object.entries(labels ?? {})) visit(`label ${name}=${value}`);
      },
    },
    describe: (labels) => `labelled ${listed(pairs(labels))}`,
  },
  namespaceLabels: {
    form: 'labels',
    prepare: (labels) => {
      const wanted = Object.entries(labels);
      return (facts) => hasLabels(wanted, facts.namespaceLabels);
    },
    index: {
      by: 'name',
      keysOf: (labels) => Object.entries(labels).map(([name, value]) => [`namespace label ${name}=${value}`]),
      forEachKey: ({ namespaceLabels }, visit) => {
        for (const [name, value] of Object.entries(namespaceLabels ?? {})) visit(`namespace label ${name}=${value}`);
      },
    },
    describe: (labels) => `in a namespace labelled ${listed(pairs(labels))}`,
  },
  nodes: nameField('on node', (facts) => facts.node),
  external: { form: 'flag', prepare: () => (facts) => facts.isExternal, index: null, describe: () => 'external' },
  unauthenticated: {
    form: 'flag',
    prepare: () => (facts) => facts.isUnauthenticated,
    index: null,
    describe: () => 'unauthenticated',
  },
  cidrs: {
    form: 'names',
    prepare: (texts) => {
      const networks = readNetworks(texts);
      return (facts) => networks.has(facts.ip);
    },
    index: { by: 'network', networksOf: (texts) => texts.map(readCidr) },
    describe: (texts) => `in ${listed(texts)}`,
  },
  exceptCidrs: {
    form: 'names',
    prepare: (texts) => {
      const networks = readNetworks(texts);
      return (facts) => !networks.has(facts.ip);
    },
    index: null,
    describe: (texts) => `not in ${listed(texts)}`,
  },
  segment: { form: 'text', prepare: null, index: null, describe: (name) => `in segment ${name}` },
  service: { form: 'text', prepare: null, index: null, describe: (name) => `an endpoint of service ${name}` },
};

/** Field names in table order. */
export const matchFieldNames = Object.keys(matchFields) as readonly MatchFieldName[];

/**
 * The fields that are set in a match. Throws CulvertError `SNAPSHOT_INVALID` for a field without a row: ignoring it
 * would match more than the author allowed.
 */
export function fieldsOf(match: PeerMatch): readonly MatchFieldName[] {
  const names = Object.keys(match);
  for (const name of names) if (!Object.hasOwn(matchFields, name)) throw unknownField(name);
  return names as MatchFieldName[];
}

function unknownField(name: string): CulvertError {
  return new CulvertError({
    code: 'SNAPSHOT_INVALID',
    message: `The rules match by "${name}", which this version does not know.`,
    hint: 'run the same version of culvert-agent and culvert-controller',
  });
}

/** Calls `use` with the row of a field and the value that the match has for it; undefined when the field is not set. */
export function useField<F extends MatchFieldName, R>(
  field: F,
  match: PeerMatch,
  use: (row: MatchField<MatchValue<F>>, value: MatchValue<F>) => R,
): R | undefined {
  const value: PeerMatch[F] = match[field];
  return value === undefined || value === null ? undefined : use(matchFields[field], value);
}

/**
 * A field that lists alternatives for a fact of which a side has at most one. `words` precede the list in a
 * description.
 */
function nameField(words: string, factOf: (facts: PartyFacts) => string | null): MatchField<Names> {
  return {
    form: 'names',
    prepare: (names) => {
      const wanted = new Set(names);
      return (facts) => {
        const fact = factOf(facts);
        return fact !== null && wanted.has(fact);
      };
    },
    index: {
      by: 'name',
      keysOf: (names) => [names.map((name) => `${words} ${name}`)],
      forEachKey: (facts, visit) => {
        const fact = factOf(facts);
        if (fact !== null) visit(`${words} ${fact}`);
      },
    },
    describe: (names) => `${words} ${listed(names)}`,
  };
}

function pairs(labels: Labels): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`);
}

/** Longer lists are cut when shown to a person. */
const maxListed = 4;

export function listed(values: readonly string[], separator = ', '): string {
  const shown = values.slice(0, maxListed).join(separator);
  return values.length > maxListed ? `${shown}${separator}and ${values.length - maxListed} more` : shown;
}
