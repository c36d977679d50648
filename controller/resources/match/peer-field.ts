import type { z } from 'zod';
import type { MatchFieldName, MatchValue } from '../../../shared/policy/match-fields.js';
import type { Party } from '../../../shared/policy/connection.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';

/** What the controller needs of one field of {@link PeerMatch}, besides what agents know of it too. */
export type PeerField<F extends MatchFieldName, N extends string = string, S extends z.ZodType = z.ZodType> = {
  readonly document: DocumentField<F, N, S>;
  readonly about: MatchSubject;
  /** Two matches by this field alone are one match by both lists. */
  readonly merges: F extends ListField ? boolean : false;
  /** The namespaces that a side must be in; null: the field does not tell. */
  readonly pinnedNamespaces: F extends ListField ? ((names: readonly string[]) => readonly string[]) | null : null;
  /** What the field requires of a side that is in both, which may depend on other fields too. */
  readonly overlap: (a: PeerMatch, b: PeerMatch) => Overlap;
  /** Whether each side that `inner` matches meets this field of `outer`, whatever workloads there are. */
  readonly covers: (outer: PeerMatch, inner: PeerMatch) => boolean;
  /** Sides that differ from this one in one fact and meet the field; none when no such change is worth a hint. */
  changes(value: MatchValue<F>, party: Party, trustDomain: string): readonly PartyChange[];
};

/** The fields with values of a type. */
export type FieldWith<V> = { [F in MatchFieldName]: MatchValue<F> extends V ? F : never }[MatchFieldName];

/** Fields whose value is a list of alternatives. */
export type ListField = FieldWith<readonly string[]>;

/** How documents write a field: one entry of `from`, `to` and a segment's `members`. */
export type DocumentField<F extends MatchFieldName, N extends string = string, S extends z.ZodType = z.ZodType> = {
  readonly name: N;
  readonly schema: S;
  toMatch(written: z.output<S>): MatchValue<F>;
  /** As a table shows it. */
  column(written: z.output<S>): string;
  /** Names something that a resource should be there for: a name that nothing has is often a typing mistake. */
  readonly reference: { readonly to: ReferencedName; readonly missing: (name: string) => string } | null;
};

export type ReferencedName = 'workload' | 'service account' | 'service';

/**
 * What decides a field: what the registry says of a workload, the labels of its namespace (also in the snapshot), where a
 * side stands outside the mesh, or its address. `origin` fields decide nothing.
 */
export type MatchSubject = 'workload' | 'namespace' | 'outsider' | 'address' | 'origin';

/** In words. Undefined: no requirement; null: no side meets both. */
export type Overlap = string | undefined | null;

export type PartyChange = {
  /** Lower is a smaller change. */
  readonly cost: number;
  /** `service account`, `label app`, … */
  readonly fact: string;
  /** Null: it has none. */
  readonly is: string | null;
  readonly wouldBe: string;
  readonly party: Party;
};
