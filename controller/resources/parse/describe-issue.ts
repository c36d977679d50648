import type { z } from 'zod';
import { nearestName } from '../../../shared/nearest-name.js';
import { fieldNames, noteOf as note, schemaAt, type SchemaLayers } from './schema-layers.js';

/** A zod issue in words for people. `isKey`: the key at the end of the path is wrong, not its value. */
export type FieldProblem = {
  readonly path: readonly PropertyKey[];
  readonly isKey: boolean;
  readonly message: string;
  readonly hint: string;
};

type Issue = z.core.$ZodIssue;

/** The text of the scalar at a path as it stands in the document; undefined: there is none, or the text is not known. */
export type WrittenAt = (path: readonly PropertyKey[]) => string | undefined;

/**
 * Turns one issue of `schema` into problems, one for each unknown field. `input`: the value that was parsed. `writtenAt`
 * keeps advice true to the text: `1.10` is read as the number 1.1, but its label is "1.10".
 */
export function describeIssue(
  schema: z.ZodType,
  issue: Issue,
  input: unknown,
  writtenAt: WrittenAt = () => undefined,
): FieldProblem[] {
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
  const text = typeof value === 'string' ? undefined : writtenAt(path);
  return [{ path, isKey: false, ...describeValue(issue, field, value, text) }];
}

function describeUnknownField(field: SchemaLayers, key: string): { message: string; hint: string } {
  const refused = note(field, 'refusedFields')?.[key];
  if (refused !== undefined) return { message: 'is not supported', hint: refused };
  const known = fieldNames(field);
  const nearest = nearestName(key, known);
  if (nearest !== undefined) return { message: 'is not a field here', hint: `did you mean "${nearest}"?` };
  return { message: 'is not a field here', hint: `the fields are ${known.join(', ')}` };
}

/** `text`: what stands there, when it is known and `value` is no string. */
function describeValue(
  issue: Issue,
  field: SchemaLayers,
  value: unknown,
  text: string | undefined,
): { message: string; hint: string } {
  const own = issue.code === 'custom' ? (issue.params?.['example'] as string | undefined) : undefined;
  const example = own ?? note(field, 'example');
  const hint = example === undefined ? '' : `for example ${example}`;
  // A check across fields reported a field that is missing.
  if (value === undefined && issue.code === 'custom') return { message: issue.message, hint };
  if (value === undefined) return { message: 'is missing', hint: hint === '' ? missingHint(issue) : hint };
  if (value === null) return describeNull(issue, hint, text);
  if (issue.code === 'invalid_value') return describeChoice(issue.values.map(String), field, value, text);
  if (issue.code === 'invalid_type') {
    const wanted = typeNames[issue.expected] ?? issue.expected;
    const isScalar = typeof value !== 'object';
    const quoted =
      issue.expected === 'string' && isScalar ? `put it in quotes: "${text ?? JSON.stringify(value)}"` : '';
    return { message: `must be ${wanted}, but is ${describeType(value, text)}`, hint: quoted === '' ? hint : quoted };
  }
  const isLong = issue.code === 'too_big' && issue.origin === 'string';
  if (isLong) return { message: `is too long: at most ${String(issue.maximum)} characters`, hint };
  if (typeof value === 'object') return { message: issue.message, hint };
  return { message: `${text ?? JSON.stringify(value)} ${issue.message}`, hint };
}

/** YAML reads nothing, `~` and `null` without quotes as no value. */
function describeNull(issue: Issue, hint: string, text: string | undefined): { message: string; hint: string } {
  const isWord = text !== undefined && text !== '' && issue.code === 'invalid_type' && issue.expected === 'string';
  if (isWord) return { message: 'has no value', hint: `if it is a text, put it in quotes: "${text}"` };
  return { message: 'has no value', hint: hint === '' ? missingHint(issue) : hint };
}

function describeChoice(
  values: readonly string[],
  field: SchemaLayers,
  value: unknown,
  text: string | undefined,
): { message: string; hint: string } {
  const written = typeof value === 'string' ? value : describeType(value, text);
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

function describeType(value: unknown, text: string | undefined): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  return typeof value === 'string'
    ? `the text ${JSON.stringify(value)}`
    : `the ${typeof value} ${text ?? JSON.stringify(value)}`;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const segment of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[segment];
  }
  return value;
}
