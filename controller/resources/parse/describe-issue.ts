import type { z } from 'zod';
import { nearestName } from '../../../shared/nearest-name.js';
import { fieldNotes, type FieldNotes } from '../kinds/field-notes.js';

/** A zod issue in words for people. `isKey`: the key at the end of the path is wrong, not its value. */
export type FieldProblem = {
  readonly path: readonly PropertyKey[];
  readonly isKey: boolean;
  readonly message: string;
  readonly hint: string;
};

type Issue = z.core.$ZodIssue;

/** Turns one issue of `schema` into problems, one for each unknown field. `input`: the value that was parsed. */
export function describeIssue(schema: z.ZodType, issue: Issue, input: unknown): FieldProblem[] {
  const { path } = issue;
  const field = schemaAt(schema, path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], isKey: true, ...describeUnknownField(field, key) }));
  }
  if (issue.code === 'invalid_key') {
    const message = issue.issues[0]?.message ?? 'is not a name that is allowed here';
    return [{ path, isKey: true, message, hint: '' }];
  }
  const value = valueAt(input, path);
  return [{ path, isKey: false, ...describeValue(issue, field, value) }];
}

type Field = { readonly layers: readonly z.core.$ZodType[] };

function describeUnknownField(field: Field, key: string): { message: string; hint: string } {
  const refused = note(field, 'refusedFields')?.[key];
  if (refused !== undefined) return { message: 'is not supported', hint: refused };
  const known = fieldNames(field);
  const nearest = nearestName(key, known);
  if (nearest !== undefined) return { message: 'is not a field here', hint: `did you mean "${nearest}"?` };
  return { message: 'is not a field here', hint: `the fields are ${known.join(', ')}` };
}

function describeValue(issue: Issue, field: Field, value: unknown): { message: string; hint: string } {
  const example = note(field, 'example');
  const hint = example === undefined ? '' : `for example ${example}`;
  // A check across fields reported a field that is missing.
  if (value === undefined && issue.code === 'custom') return { message: issue.message, hint };
  if (value === undefined) return { message: 'is missing', hint: hint === '' ? missingHint(issue) : hint };
  if (value === null) return { message: 'has no value', hint: hint === '' ? missingHint(issue) : hint };
  if (issue.code === 'invalid_value') return describeChoice(issue.values.map(String), field, value);
  if (issue.code === 'invalid_type') {
    const wanted = typeNames[issue.expected] ?? issue.expected;
    const quote =
      issue.expected === 'string' && typeof value !== 'object' ? `put it in quotes: "${JSON.stringify(value)}"` : '';
    return { message: `must be ${wanted}, but is ${describeType(value)}`, hint: quote === '' ? hint : quote };
  }
  if (issue.code === 'too_big') return { message: `is too long: at most ${String(issue.maximum)} characters`, hint };
  return { message: typeof value === 'object' ? issue.message : `${JSON.stringify(value)} ${issue.message}`, hint };
}

function describeChoice(values: readonly string[], field: Field, value: unknown): { message: string; hint: string } {
  const written = typeof value === 'string' ? value : describeType(value);
  const refused = note(field, 'refusedValues')?.[written];
  if (refused !== undefined) return { message: `"${written}" ${refused}`, hint: `the values are ${values.join(', ')}` };
  const nearest = nearestName(written, values);
  if (values.length === 1) return { message: `must be "${values[0] ?? ''}", but is "${written}"`, hint: '' };
  const meant = nearest === undefined ? '' : `did you mean "${nearest}"? `;
  return { message: `must not be "${written}"`, hint: `${meant}The values are ${values.join(', ')}` };
}

function missingHint(issue: Issue): string {
  if (issue.code === 'invalid_value') return `the values are ${issue.values.map(String).join(', ')}`;
  return issue.code === 'invalid_type' && issue.expected === 'object' ? 'for example {}' : 'give it a value';
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  object: 'a mapping',
  record: 'a mapping',
  array: 'a list',
};

function describeType(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  return typeof value === 'string'
    ? `the text ${JSON.stringify(value)}`
    : `the ${typeof value} ${JSON.stringify(value)}`;
}

/** The schema at a path, with all of its wrappers, outermost first. */
function schemaAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): Field {
  let layers = unwrap(schema);
  for (const segment of path) {
    const inner = layers.map((layer) => childOf(layer, segment)).find((child) => child !== undefined);
    if (inner === undefined) return { layers: [] };
    layers = unwrap(inner);
  }
  return { layers };
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('innerType' in def) return [schema, ...unwrap(def.innerType)];
  return def.type === 'pipe' ? [schema, ...unwrap(def.in)] : [schema];
}

function childOf(schema: z.core.$ZodType, segment: PropertyKey): z.core.$ZodType | undefined {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === 'object') return Object.hasOwn(def.shape, segment) ? def.shape[String(segment)] : undefined;
  if (def.type === 'array') return def.element;
  return def.type === 'record' ? def.valueType : undefined;
}

function fieldNames(field: Field): string[] {
  for (const layer of field.layers) {
    const { def } = (layer as z.core.$ZodTypes)._zod;
    if (def.type === 'object') return Object.keys(def.shape);
  }
  return [];
}

function note<K extends keyof FieldNotes>(field: Field, name: K): FieldNotes[K] | undefined {
  return field.layers.map((layer) => fieldNotes.get(layer as z.ZodType)?.[name]).find((value) => value !== undefined);
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const segment of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[segment];
  }
  return value;
}
