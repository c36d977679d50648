import { z } from 'zod';
import type { Cidr } from '../../../shared/address.js';
import type { MatchFieldName, MatchValue } from '../../../shared/policy/match-fields.js';
import { namespaceNameLabel } from '../../../shared/policy/prepared/namespace-labels.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { fieldNotes } from '../kinds/field-notes.js';
import {
  cidrField,
  namespaceField,
  namespacedNameField,
  selectorField,
  subdomainField,
} from '../kinds/field-schemas.js';
import {
  flagField,
  intersect,
  labelField,
  labelText,
  nameField,
  namespaceOf,
  noChange,
  noRequirement,
  originField,
} from './field-kinds.js';
import { commonAddress, coversExceptions, coversNetworks } from './network-relations.js';
import { toAccounts, toLabels, toNamespaces, toNetworks, toNodes, toWorkloads } from './party-changes.js';
import type { ListField, MatchSubject, Overlap, PeerField } from './peer-field.js';

/**
 * The controller's row for each field of {@link PeerMatch}, in the order in which documents list them. What agents need
 * too (condition, description, wire form) is in a first table, `shared/policy/match-fields.ts`. A field without a row
 * does not compile.
 */
const table = {
  segment: {
    ...originField(),
    document: document(
      'segment',
      subdomainField('databases')
        .exactOptional()
        .describe('Every member of this Segment.')
        .register(fieldNotes, { limits: 'stands alone' }),
      same,
      (name) => `seg:${name}`,
    ),
  },
  namespaces: {
    ...nameField('namespaces'),
    document: document(
      'namespace',
      namespaceField.exactOptional().describe('Workloads of this namespace.'),
      one,
      (name) => `ns:${name}`,
    ),
    pinnedNamespaces: (names: readonly string[]) => names,
    overlap: (a: PeerMatch, b: PeerMatch) => {
      const namespace = commonNamespace(a, b);
      return typeof namespace === 'string' ? `in namespace ${namespace}` : namespace;
    },
    // The name of a service account or workload contains its namespace.
    covers: ({ namespaces: outer }: PeerMatch, inner: PeerMatch) =>
      outer === undefined || pinsOf(inner).some((names) => names.every((name) => outer.includes(name))),
    changes: toNamespaces,
  },
  namespaceLabels: {
    ...labelField('namespaceLabels', 'namespace', 'in a namespace labelled'),
    document: document(
      'namespaceLabels',
      selectorField.exactOptional().describe('Workloads of namespaces with all of these labels.'),
      same,
      (labels) => `ns[${labelText(labels)}]`,
    ),
    changes: noChange,
  },
  labels: {
    ...labelField('labels', 'workload', 'labelled'),
    document: document(
      'labels',
      selectorField.exactOptional().describe('Workloads with all of these labels.'),
      same,
      labelText,
    ),
    changes: toLabels,
  },
  serviceAccounts: {
    ...namespacedField('serviceAccounts', 'service account'),
    document: {
      ...document(
        'serviceAccount',
        namespacedNameField('billing/api').exactOptional().describe('Workloads of this service account.'),
        one,
        (name) => `sa:${name}`,
      ),
      reference: { to: 'service account', missing: missingAccount },
    },
    changes: toAccounts,
  },
  workloads: {
    ...namespacedField('workloads', 'workload'),
    document: {
      ...document(
        'workload',
        namespacedNameField('billing/db').exactOptional().describe('This workload.'),
        one,
        (name) => `wl:${name}`,
      ),
      reference: { to: 'workload', missing: (name: string) => `there is no Workload ${name}` },
    },
    changes: toWorkloads,
  },
  service: {
    ...originField(),
    document: {
      ...document(
        'service',
        namespacedNameField('billing/databases')
          .exactOptional()
          .describe('The workloads behind this Service, or the addresses of this ServiceEntry.')
          .register(fieldNotes, { limits: 'stands alone' }),
        same,
        (name) => `svc:${name}`,
      ),
      reference: { to: 'service', missing: (name: string) => `there is no Service or ServiceEntry ${name}` },
    },
  },
  nodes: {
    ...nameField('nodes'),
    document: document(
      'node',
      subdomainField('host-a').exactOptional().describe('Workloads of this host.'),
      one,
      (name) => `node:${name}`,
    ),
    overlap: (a: PeerMatch, b: PeerMatch) => {
      const nodes = intersect(a.nodes, b.nodes);
      return nodes === undefined ? undefined : nodes[0] === undefined ? null : `on node ${nodes[0]}`;
    },
    changes: toNodes,
  },
  cidrs: {
    document: document('cidr', cidrField.exactOptional().describe('Addresses of this network.'), one, (cidr) => cidr),
    about: 'address',
    merges: true,
    pinnedNamespaces: null,
    overlap: (a: PeerMatch, b: PeerMatch, named: readonly Cidr[]) => {
      const address = commonAddress(a, b, a.external === true || b.external === true ? named : []);
      return typeof address === 'string' ? `with address ${address}` : address;
    },
    covers: coversNetworks,
    changes: toNetworks,
  },
  exceptCidrs: {
    document: document(
      'except',
      z
        .array(cidrField)
        .min(1, 'must not be empty: leave it out')
        .exactOptional()
        .describe('Addresses that `cidr` does not match.')
        .register(fieldNotes, { limits: 'only together with `cidr`' }),
      same,
      (cidrs) => `-${cidrs.join('-')}`,
    ),
    about: 'address',
    merges: false,
    pinnedNamespaces: null,
    // The `cidrs` row finds an address outside the exceptions; without `cidrs` there always is one.
    overlap: noRequirement,
    covers: coversExceptions,
    changes: noChange,
  },
  external: {
    ...flagField('external'),
    document: document(
      'external',
      onlyTrue('Addresses that no workload, service or ServiceEntry of the root namespace names.'),
      same,
      () => 'external',
    ),
    overlap: (a: PeerMatch, b: PeerMatch) => {
      if (a.external !== true && b.external !== true) return undefined;
      return [a, b].some((match) => isAbout(match, 'workload', 'namespace')) ? null : 'outside the mesh';
    },
  },
  unauthenticated: {
    ...flagField('unauthenticated'),
    document: document('unauthenticated', onlyTrue('A source that proved no identity.'), same, () => 'unauthenticated'),
    overlap: (a: PeerMatch, b: PeerMatch) =>
      a.unauthenticated === true || b.unauthenticated === true ? 'without an identity' : undefined,
  },
} as const satisfies { readonly [F in keyof Required<PeerMatch>]: PeerField<F> };

/** The exact row types, from which the document schema gets its type. */
export type PeerTable = typeof table;

export const peerFields: { readonly [F in MatchFieldName]: PeerField<F> } = table;

/** Field names in table order. */
export const peerFieldNames = Object.keys(table) as readonly MatchFieldName[];

/** Calls `use` with the row of a field and the value that the match has for it; undefined when the field is not set. */
export function usePeerField<F extends MatchFieldName, R>(
  field: F,
  match: PeerMatch,
  use: (row: PeerField<F>, value: MatchValue<F>) => R,
): R | undefined {
  const value: PeerMatch[F] = match[field];
  return value === undefined || value === null ? undefined : use(peerFields[field], value);
}

/** Whether the match sets a field that one of these subjects decides. */
export function isAbout(match: PeerMatch, ...subjects: readonly MatchSubject[]): boolean {
  return peerFieldNames.some((field) => match[field] !== undefined && subjects.includes(peerFields[field].about));
}

/** Whether a party can match that is not a registered workload. */
export function mayBeUnregistered(match: PeerMatch): boolean {
  return isAbout(match, 'outsider', 'address');
}

/** The match reduced to the fields that this subject decides. */
export function withOnly(match: PeerMatch, subject: MatchSubject): PeerMatch {
  return Object.fromEntries(
    peerFieldNames
      .filter((field) => peerFields[field].about === subject)
      .flatMap((field) => (match[field] === undefined ? [] : [[field, match[field]]])),
  );
}

/** The fields that limit the namespace. */
const pinning = peerFieldNames.flatMap((field) => {
  const { pinnedNamespaces } = peerFields[field];
  return pinnedNamespaces === null ? [] : [{ field: field as ListField, namespacesOf: pinnedNamespaces }];
});

/** The namespaces that each such field allows. A party must be in one namespace of every list. */
export function pinsOf(match: PeerMatch): (readonly string[])[] {
  const pins = pinning.flatMap(({ field, namespacesOf }) => {
    const names = match[field];
    return names === undefined ? [] : [namespacesOf(names)];
  });
  const labelled = labelledNamespace(match);
  return labelled === undefined ? pins : [...pins, [labelled]];
}

/** Every namespace has a label with its own name, so this label limits the namespace too. */
function labelledNamespace({ namespaceLabels }: PeerMatch): string | undefined {
  return namespaceLabels?.[namespaceNameLabel];
}

/** A namespace that both matches allow; undefined: any. */
function commonNamespace(a: PeerMatch, b: PeerMatch): Overlap {
  const constraints = pinning.flatMap(({ field, namespacesOf }) => {
    const names = intersect(a[field], b[field]);
    return names === undefined ? [] : [namespacesOf(names)];
  });
  for (const labelled of [labelledNamespace(a), labelledNamespace(b)]) {
    if (labelled !== undefined) constraints.push([labelled]);
  }
  const [first, ...rest] = constraints;
  if (first === undefined) return undefined;
  return first.find((candidate) => rest.every((constraint) => constraint.includes(candidate))) ?? null;
}

/** What to say of an account that no workload has. */
export function missingAccount(name: string): string {
  return `no workload runs as service account ${name}`;
}

function document<const N extends string, S extends z.ZodType, V>(
  name: N,
  schema: S,
  toMatch: (written: z.output<S>) => V,
  column: (written: z.output<S>) => string,
) {
  return { name, schema, toMatch, column, reference: null };
}

/** Names of the form `namespace/name`. */
function namespacedField(field: ListField, words: string) {
  return {
    ...nameField(field),
    pinnedNamespaces: (names: readonly string[]) => names.map(namespaceOf),
    overlap: (a: PeerMatch, b: PeerMatch): Overlap => {
      const names = intersect(a[field], b[field]);
      if (names === undefined) return undefined;
      const namespace = commonNamespace(a, b);
      const name = names.find((candidate) => namespaceOf(candidate) === namespace);
      return name === undefined ? null : `${words} ${name}`;
    },
  } as const;
}

function onlyTrue(text: string) {
  return z
    .literal(true)
    .register(fieldNotes, { example: 'true' })
    .exactOptional()
    .describe(text)
    .register(fieldNotes, { limits: '`true`; not together with a field that only workloads have' });
}

function one<T>(value: T): readonly [T] {
  return [value];
}

function same<T>(value: T): T {
  return value;
}
