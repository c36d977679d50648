import type { z } from 'zod';
import { fieldNames, layersOf, noteOf, schemaBelow, type SchemaLayers } from './schema-layers.js';

/**
 * The document without fields whose value is null: in the APIs of Kubernetes such a field is absent. Only fields of the
 * schema are meant. A null label is no absent label (a selector without it would select more), and a null list item is no
 * shorter list: both stay, and the schema refuses them.
 */
export function withoutNullFields(schema: z.core.$ZodType, value: unknown): unknown {
  return strip(layersOf(schema), value);
}

function strip(layers: SchemaLayers, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => strip(schemaBelow(layers, 0), item));
  if (typeof value !== 'object' || value === null) return value;
  const known = [...fieldNames(layers), ...Object.keys(noteOf(layers, 'refusedFields') ?? {})];
  const kept = Object.entries(value).filter(([field, inner]) => inner !== null || !known.includes(field));
  return Object.fromEntries(kept.map(([field, inner]) => [field, strip(schemaBelow(layers, field), inner)]));
}
