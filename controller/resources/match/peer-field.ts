import type { z } from 'zod';
import type { Cidr } from '../../../shared/address.js';
import type { MatchFieldName, MatchValue } from '../../../shared/policy/match-fields.js';
import type { Party } from '../../../shared/policy/connection.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';

/** What only the controller needs for one field of {@link PeerMatch}. */
export type PeerField<F extends MatchFieldName, N extends string = string, S extends z.ZodType = z.ZodType> = {
  readonly document: DocumentField<F, N, S>;
  readonly about: MatchSubject;
  /** Matches that set only this field can be merged into one with both lists. */
  readonly merges: F extends ListField ? boolean : false;
  /** The namespaces to which the field limits a party; null: it does not limit them. */
  readonly pinnedNamespaces: F extends ListField ? ((names: readonly string[]) => readonly string[]) | null : null;
  /**
   * What the field requires of a party that matches both. It may depend on other fields. `named`: addresses that
   * ServiceEntries of the root namespace name, which are not external.
   */
  readonly overlap: (a: PeerMatch, b: PeerMatch, named: readonly Cidr[]) => Overlap;
  /**
   * Whether every party that `inner` matches satisfies this field of `outer`, regardless of the workloads that exist
   * now.
   */
  readonly covers: (outer: PeerMatch, inner: PeerMatch) => boolean;
  /**
   * Parties that differ from this one in a single fact and satisfy the field, for hints. Empty if no such change is
   * useful.
   */
  changes(value: MatchValue<F>, party: Party, trustDomain: string): readonly PartyChange[];
};

/** The fields whose value has a type. */
export type FieldWith<V> = { [F in MatchFieldName]: MatchValue<F> extends V ? F : never }[MatchFieldName];

/** Fields whose value is a list of alternatives. */
export type ListField = FieldWith<readonly string[]>;

/** How documents write a field, in one entry of `from`, `to` and a segment's `members`. */
export type DocumentField<F extends MatchFieldName, N extends string = string, S extends z.ZodType = z.ZodType> = {
  readonly name: N;
  readonly schema: S;
  toMatch(written: z.output<S>): MatchValue<F>;
  /** The text in tables. */
  column(written: z.output<S>): string;
  /** The value names a resource that should exist. Missing ones are often typing mistakes. */
  readonly reference: { readonly to: ReferencedName; readonly missing: (name: string) => string } | null;
};

export type ReferencedName = 'workload' | 'service account' | 'service';

/**
 * What decides a field: the registry entry of a workload, the labels of its namespace (which are in the snapshot),
 * being outside the mesh, or the address. `origin` fields decide nothing.
 */
export type MatchSubject = 'workload' | 'namespace' | 'outsider' | 'address' | 'origin';

/** In words. Undefined: no requirement; null: no party matches both. */
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
