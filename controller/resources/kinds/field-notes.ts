import { z } from 'zod';

/**
 * What problem reports and the field reference say about a schema in addition to the schema itself. The meaning of a
 * field is its `describe()`; the copy that `describe()` makes keeps the notes of the original.
 */
export type FieldNotes = {
  /** A valid value, as written in YAML. */
  readonly example?: string;
  /** Known fields of this object that are not supported, and why. They are refused, never silently dropped. */
  readonly refusedFields?: Readonly<Record<string, string>>;
  /** Known values that are not supported, and why. */
  readonly refusedValues?: Readonly<Record<string, string>>;
  /** The name of the type in the reference; defaults to the schema's own name. */
  readonly type?: string;
  /**
   * Limits that the schema checks in code, for the reference. Those of `min`, `max` and `refine` are read from the
   * schema.
   */
  readonly limits?: string;
  /** The heading under which the reference describes this object once and to which each field with it links. */
  readonly part?: string;
  /** What a definition of a custom resource says of the field in addition to what is read from the schema. */
  readonly openApi?: OpenApiNote;
};

/** Words of OpenAPI v3 as Kubernetes takes them. `rules` are in CEL, by the message of a document that breaks them. */
export type OpenApiNote = {
  readonly type?: 'integer';
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minProperties?: number;
  readonly pattern?: string;
  readonly rules?: Readonly<Record<string, string>>;
};

export const fieldNotes = z.registry<FieldNotes>();
