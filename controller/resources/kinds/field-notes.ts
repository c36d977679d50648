import { z } from 'zod';

/** What a problem report says about a schema beyond what the schema itself knows. */
export type FieldNotes = {
  /** A value that would be right, as a person writes it in YAML. */
  readonly example?: string;
  /** Fields of this object that are known and not supported, and why. They are refused, never dropped in silence. */
  readonly refusedFields?: Readonly<Record<string, string>>;
  /** Values that are known and not supported, and why. */
  readonly refusedValues?: Readonly<Record<string, string>>;
};

export const fieldNotes = z.registry<FieldNotes>();
