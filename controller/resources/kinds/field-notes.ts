import { z } from 'zod';

/**
 * What problem reports and the reference of all fields say about a schema beyond what the schema itself knows. What a
 * field means is its `describe()`; a copy that `describe()` makes keeps the notes of the original.
 */
export type FieldNotes = {
  /** A value that would be right, as a person writes it in YAML. */
  readonly example?: string;
  /** Fields of this object that are known and not supported, and why. They are refused, never dropped in silence. */
  readonly refusedFields?: Readonly<Record<string, string>>;
  /** Values that are known and not supported, and why. */
  readonly refusedValues?: Readonly<Record<string, string>>;
  /** What the reference calls the type; without it the name is that of the schema. */
  readonly type?: string;
  /** Limits that the schema checks in code, for the reference; those of `min`, `max` and `refine` are read from it. */
  readonly limits?: string;
  /** The reference describes this object once, under this heading, and links to it from each field that has it. */
  readonly part?: string;
};

export const fieldNotes = z.registry<FieldNotes>();
