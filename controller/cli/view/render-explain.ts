import { kindInfo, kindNames, type ResourceKind } from '../../resources/kinds/resource.js';
import { fieldsOf, type FieldRow } from '../../resources/fields/field-rows.js';
import { nearestName } from '../../../shared/nearest-name.js';
import { CliError } from '../exit-codes.js';
import { wrapped } from './wrapped-text.js';

/** What `culvert explain` prints of a kind, or of one field of it and what that contains. Throws CliError (notFound). */
export function renderExplain(kind: ResourceKind, field: string | undefined): string {
  const rows = allRows(kind);
  if (field === undefined) {
    const { apiVersions, isNamespaced, schema } = kindInfo(kind);
    const belongs = isNamespaced ? 'a namespace' : 'the whole mesh';
    const head = [`KIND        ${kind}`, `apiVersion  ${apiVersions.join(', ')}`, `belongs to  ${belongs}`, ''];
    return [...head, wrapped(plain(schema.description ?? ''), ''), '', 'FIELDS', ...listed(rows, 2)].join('\n');
  }
  const wanted = normal(field);
  const row = rows.find(({ path }) => normal(path) === wanted);
  if (row === undefined) {
    const hint = fieldHint(kind, wanted, [...new Set(rows.map(({ path }) => normal(path)))]);
    throw new CliError({ exit: 'notFound', code: 'NOT_FOUND', message: `${kind} has no field "${field}"`, hint });
  }
  const within = rows.filter(({ path }) => normal(path).startsWith(`${wanted}.`));
  return [
    `FIELD    ${kind}.${row.path}`,
    `type     ${plain(row.type)}`,
    `without  ${plain(row.presence)}`,
    ...(row.limits === '' ? [] : [`limits   ${plain(row.limits)}`]),
    ...(row.example === '' ? [] : [`example  ${row.example}`]),
    '',
    wrapped(plain(row.meaning), ''),
    ...(within.length === 0 ? [] : ['', 'FIELDS', ...listed(within, depthOf(row.path) + 1)]),
  ].join('\n');
}

/** What `culvert explain` prints of an object that several fields have, such as `peer`. Null: there is none of this name. */
export function renderPart(text: string): string | null {
  for (const kind of kindNames) {
    for (const [name, schema] of fieldsOf(kindInfo(kind).schema).parts) {
      if (name.toLowerCase() !== text.toLowerCase()) continue;
      const { rows } = fieldsOf(schema, { withParts: true });
      const meaning = (schema as { readonly description?: string }).description ?? '';
      const about = meaning === '' ? [] : [wrapped(plain(meaning), ''), ''];
      return [`OBJECT   ${name}`, `such as  in ${kind}`, '', ...about, 'FIELDS', ...listed(rows, 2)].join('\n');
    }
  }
  return null;
}

/** Fields of any kind whose path is this one, or ends with it: what a path without its kind may mean. Empty: there is none. */
export function fieldsNamed(text: string): string[] {
  const wanted = normal(text);
  return kindNames.flatMap((kind) =>
    endingWith(
      wanted,
      allRows(kind).map(({ path }) => normal(path)),
    ).map((path) => `${kind}.${path}`),
  );
}

/** What to write in place of a field that does not exist. */
function fieldHint(kind: ResourceKind, wanted: string, names: readonly string[]): string {
  const complete = endingWith(wanted, names);
  if (complete.length > 0) return suggested(complete);
  const alike = endingWith(wanted.slice(wanted.lastIndexOf('.') + 1), names);
  if (alike.length > 0) {
    const nearest = nearestName(wanted, alike);
    return suggested(nearest === undefined ? alike : [nearest]);
  }
  const whole = nearestName(wanted, names);
  if (whole !== undefined) return suggested([whole]);
  const depth = depthOf(wanted);
  const ending = nearestName(
    wanted,
    names.map((name) => name.split('.').slice(-depth).join('.')),
  );
  if (ending !== undefined) return suggested(endingWith(ending, names));
  const above = names.findLast(
    (name) => wanted.startsWith(`${name}.`) && names.some((one) => one.startsWith(`${name}.`)),
  );
  return `list its fields: culvert explain ${above === undefined ? kind : `${kind}.${above}`}`;
}

/** The paths whose last parts are these, shortest first. */
function endingWith(wanted: string, names: readonly string[]): string[] {
  const end = `.${wanted.toLowerCase()}`;
  return names.filter((name) => `.${name.toLowerCase()}`.endsWith(end)).sort((a, b) => depthOf(a) - depthOf(b));
}

const maxSuggested = 3;

/** `did you mean A, B or C?` */
export function suggested(names: readonly string[]): string {
  const shown = names.slice(0, maxSuggested);
  const last = shown.pop() ?? '';
  return `did you mean ${shown.length === 0 ? last : `${shown.join(', ')} or ${last}`}?`;
}

/** With the fields of objects that several kinds have, which the reference describes once. */
function allRows(kind: ResourceKind): FieldRow[] {
  const { rows } = fieldsOf(kindInfo(kind).schema, { withParts: true });
  return [...rows];
}

function listed(rows: readonly FieldRow[], depth: number): string[] {
  return rows
    .filter(({ path }) => depthOf(path) <= depth)
    .map(({ path, type, presence, limits, meaning }) => {
      const [first = ''] = plain(meaning).split(/(?<=\.)\s/);
      const values = type === 'word' && limits.includes(', ') ? ` One of: ${plain(limits)}.` : '';
      const without = presence === 'optional' ? '' : ` ${plain(presence)}`;
      return `  ${path} <${plain(type)}>${without}\n${wrapped(`${first}${values}`, '      ')}`;
    });
}

function depthOf(path: string): number {
  return path.split('.').length;
}

/** `spec.from[].cidr`, `spec.from[0].cidr` and `spec.from.cidr` are the same field. */
function normal(path: string): string {
  return path.replaceAll(/\[\d*\]/g, '').replaceAll('.*', '');
}

/** Without Markdown. */
function plain(text: string): string {
  return text.replaceAll(/\[([^\]]+)\]\([^)]*\)/g, '$1').replaceAll('`', '');
}
