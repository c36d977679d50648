import type { z } from 'zod';
import { fieldNotes, type FieldNotes } from '../kinds/field-notes.js';

/** A schema with all of its wrappers (optional, default, refined), outermost first. Empty: there is no such field. */
export type SchemaLayers = readonly z.core.$ZodType[];

/** The schema of the field at a path. */
export function schemaAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): SchemaLayers {
  let layers = layersOf(schema);
  for (const segment of path) layers = schemaBelow(layers, segment);
  return layers;
}

/** The schema of one field, entry or list item below. */
export function schemaBelow(layers: SchemaLayers, segment: PropertyKey): SchemaLayers {
  const inner = layers.map((layer) => childOf(layer, segment)).find((child) => child !== undefined);
  return inner === undefined ? [] : layersOf(inner);
}

export function layersOf(schema: z.core.$ZodType): SchemaLayers {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('innerType' in def) return [schema, ...layersOf(def.innerType)];
  return def.type === 'pipe' ? [schema, ...layersOf(def.in)] : [schema];
}

function childOf(schema: z.core.$ZodType, segment: PropertyKey): z.core.$ZodType | undefined {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === 'object') return Object.hasOwn(def.shape, segment) ? def.shape[String(segment)] : undefined;
  if (def.type === 'array') return def.element;
  return def.type === 'record' ? def.valueType : undefined;
}

/** The names of the fields of an object; none for other types. */
export function fieldNames(layers: SchemaLayers): string[] {
  for (const layer of layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    if (def.type === 'object') return Object.keys(def.shape);
  }
  return [];
}

/** The outermost note of that name. */
export function noteOf<K extends keyof FieldNotes>(layers: SchemaLayers, name: K): FieldNotes[K] | undefined {
  return layers.map((layer) => fieldNotes.get(layer as z.ZodType)?.[name]).find((value) => value !== undefined);
}
