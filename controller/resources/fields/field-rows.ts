import type { z } from 'zod';
import { fieldNotes, type FieldNotes } from '../kinds/field-notes.js';

/** One field of a kind of document, as the reference shows it. */
export type FieldRow = {
  /** From the root of the document: `spec.from[].cidr`; `*` stands for the names in a mapping. */
  readonly path: string;
  readonly type: string;
  /** `required`, `optional`, or the value that applies without it. */
  readonly presence: string;
  /** Empty where the schema has no `describe()`; a test refuses that. */
  readonly meaning: string;
  readonly limits: string;
  readonly example: string;
  readonly schema: z.ZodType;
};

export type Fields = {
  readonly rows: readonly FieldRow[];
  /** Objects that are described once, by the heading of their section. */
  readonly parts: ReadonlyMap<string, z.core.$ZodType>;
};

type Layers = readonly z.core.$ZodType[];

/**
 * Every field of an object's schema, in the order of the schema. `withParts`: those of parts follow their field, and are not
 * left to their own section.
 */
export function fieldsOf(schema: z.core.$ZodType, { withParts = false } = {}): Fields {
  const rows: FieldRow[] = [];
  const parts = new Map<string, z.core.$ZodType>();
  addFields(unwrapped(schema), '', { rows, parts, withParts });
  return { rows, parts };
}

type Collected = {
  readonly rows: FieldRow[];
  readonly parts: Map<string, z.core.$ZodType>;
  readonly withParts: boolean;
};

function addFields(layers: Layers, prefix: string, collected: Collected): void {
  const { rows, parts, withParts } = collected;
  for (const [name, field] of Object.entries(shapeOf(layers) ?? {})) {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    const outer = unwrapped(field);
    rows.push({
      path,
      type: typeText(outer),
      presence: presenceText(outer),
      meaning: firstOf(outer, (layer) => (layer as z.ZodType).description) ?? '',
      limits: limitsText(outer),
      example: noteOf(outer, 'example') ?? '',
      schema: field as z.ZodType,
    });
    const { layers: inner, suffix } = innermost(outer);
    const part = noteOf(inner, 'part');
    if (part === undefined || withParts) addFields(inner, `${path}${suffix}`, collected);
    else parts.set(part, inner[0] as z.core.$ZodType);
  }
}

/** Through lists and mappings to what they contain. */
function innermost(layers: Layers): { readonly layers: Layers; readonly suffix: string } {
  let [inner, suffix] = [layers, ''];
  for (;;) {
    const element = elementOf(inner);
    if (element === undefined) return { layers: inner, suffix };
    suffix += element.suffix;
    inner = element.layers;
  }
}

function elementOf(layers: Layers): { readonly layers: Layers; readonly suffix: string } | undefined {
  for (const layer of layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    if (def.type === 'array') return { layers: unwrapped(def.element), suffix: '[]' };
    if (def.type === 'record' && shapeOf(unwrapped(def.valueType)) !== undefined) {
      return { layers: unwrapped(def.valueType), suffix: '.*' };
    }
  }
  return undefined;
}

function typeText(layers: Layers): string {
  const named = noteOf(layers, 'type');
  if (named !== undefined) return named;
  const part = noteOf(layers, 'part');
  if (part !== undefined) return `[${part}](#${part.toLowerCase()})`;
  const element = elementOf(layers);
  if (element !== undefined) return `${element.suffix === '[]' ? 'list' : 'mapping'} of ${typeText(element.layers)}`;
  for (const layer of layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    if (def.type === 'enum') return 'word';
    if (def.type === 'literal') return def.values.includes(true) ? 'boolean' : 'word';
    if (def.type === 'object') return 'object';
    if (def.type === 'record') return 'mapping';
    if (def.type === 'string' || def.type === 'number' || def.type === 'boolean') return def.type;
  }
  throw new Error('a schema of this type has no name in the reference: give its field notes a type');
}

function presenceText(layers: Layers): string {
  for (const layer of layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    if (def.type === 'default') {
      const { defaultValue } = def;
      if (typeof defaultValue === 'string' || typeof defaultValue === 'number') return `default \`${defaultValue}\``;
      return 'optional';
    }
    if (def.type === 'optional' || def.type === 'prefault') return 'optional';
  }
  return 'required';
}

/** What the notes say, else the values and the checks of the schema; for a list also those of its entries. */
function limitsText(layers: Layers): string {
  const noted = noteOf(layers, 'limits');
  if (noted !== undefined) return noted;
  const own = [...new Set(layers.flatMap(limitsOf))];
  const element = elementOf(layers);
  const inner = element === undefined || shapeOf(element.layers) !== undefined ? '' : limitsText(element.layers);
  return [...new Set([...own, ...(inner === '' ? [] : inner.split('; '))])].join('; ');
}

function limitsOf(layer: z.core.$ZodType): string[] {
  const { def } = (layer as z.core.$ZodTypes)._zod;
  if (def.type === 'enum') return [oneOf(Object.values(def.entries))];
  if (def.type === 'literal') return [oneOf(def.values)];
  return (def.checks ?? []).flatMap((check) => checkText((check as z.core.$ZodChecks)._zod.def));
}

function checkText(def: z.core.$ZodChecks['_zod']['def']): string[] {
  if (def.check === 'max_length' && def.error === undefined) return [`at most ${def.maximum} characters`];
  const message = def.error?.({} as never);
  const text = typeof message === 'string' ? message : (message?.message ?? '');
  if (text.startsWith('must not be empty')) return ['not empty'];
  if (text.startsWith('must have ')) return [text.slice('must have '.length)];
  if (text.startsWith('must be ')) return [text.slice('must be '.length)];
  if (text.startsWith('must ')) return [text];
  return text.startsWith('is written ') ? [text.slice('is '.length)] : [];
}

function oneOf(values: readonly unknown[]): string {
  return values.map((value) => `\`${String(value)}\``).join(', ');
}

function shapeOf(layers: Layers): Readonly<Record<string, z.core.$ZodType>> | undefined {
  return firstOf(layers, (layer) => {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    return def.type === 'object' ? def.shape : undefined;
  });
}

/** A schema and those that it wraps, outermost first. */
function unwrapped(schema: z.core.$ZodType): Layers {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('innerType' in def) return [schema, ...unwrapped(def.innerType)];
  if (def.type !== 'pipe') return [schema];
  // After a preprocessing the fields are those of what follows.
  const isPrepared = (def.in as z.core.$ZodTypes)._zod.def.type === 'transform';
  return [schema, ...unwrapped(isPrepared ? def.out : def.in)];
}

function noteOf<K extends keyof FieldNotes>(layers: Layers, name: K): FieldNotes[K] | undefined {
  return firstOf(layers, (layer) => fieldNotes.get(layer as z.ZodType)?.[name]);
}

function firstOf<T>(layers: Layers, read: (layer: z.core.$ZodType) => T | undefined): T | undefined {
  return layers.map(read).find((value) => value !== undefined);
}
