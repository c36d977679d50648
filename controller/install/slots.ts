/**
 * One description of the objects is what `culvert install` prints and what the Helm chart has as templates. For the chart,
 * values of an installation are slots: marks in the text and in the lists of an object, which become expressions of templates.
 */

/** Known to `culvert install`; in a chart a question to its values, as an expression of templates. */
export type Condition = boolean | { readonly template: string };

/** Around the path of a value in a text, such as `controller.storage.size`. */
const textMarks = { open: '\u{E000}', close: '\u{E001}' } as const;
/** Before the path of a value whose whole tree stands in the place of this key. */
const treeMark = '\u{E002}';
/** Before the expression that decides whether what this key has is there: fields of an object, or items of a list. */
const conditionMark = '\u{E003}';

/** After the path of a list whose items stand in a text. */
const joinMark = ' joined';

/** Of a chart, the namespace of its installation: a template of `_names.tpl`. */
const namespaceTemplate = 'include "culvert.namespace" .';

export function textSlot(path: string): string {
  return `${textMarks.open}${path}${textMarks.close}`;
}

export function treeSlot(path: string): Readonly<Record<string, never>> {
  return { [`${treeMark}${path}`]: null as never };
}

export function flagSlot(path: string): Condition {
  // Helm has made, or found, the namespace of the release, and keeps no object of it.
  if (path === 'createNamespace') {
    return { template: `and .Values.${path} (ne (${namespaceTemplate}) .Release.Namespace)` };
  }
  return { template: `.Values.${path}` };
}

/** A text in its parts: what is written, and paths of values. */
export function textParts(text: string): readonly ({ readonly written: string } | { readonly path: string })[] {
  return text
    .split(new RegExp(`(${textMarks.open}[^${textMarks.close}]*${textMarks.close})`))
    .filter((part) => part !== '')
    .map((part) => (part.startsWith(textMarks.open) ? { path: part.slice(1, -1) } : { written: part }));
}

export type MarkedKey =
  | { readonly kind: 'tree'; readonly path: string }
  | { readonly kind: 'when'; readonly template: string };

/** What a key of an object stands for; null: for itself. */
export function readKey(key: string): MarkedKey | null {
  if (key.startsWith(treeMark)) return { kind: 'tree', path: key.slice(1) };
  return key.startsWith(conditionMark) ? { kind: 'when', template: key.slice(1) } : null;
}

/** Whether a value that one chooses from a few is this one. */
export function isChoice(value: string, choice: string): Condition {
  const path = pathOf(value);
  return path === null ? value === choice : { template: `eq .Values.${path} ${JSON.stringify(choice)}` };
}

/** Whether a number is this one. */
export function isNumber(value: number, wanted: number): Condition {
  const path = typeof value === 'number' ? null : pathOf(value);
  return path === null ? value === wanted : { template: `eq (int .Values.${path}) ${wanted}` };
}

/** Whether a list of texts has this one. */
export function hasItem(list: readonly string[], item: string): Condition {
  const path = pathOf(list);
  return path === null ? list.includes(item) : { template: `has ${JSON.stringify(item)} .Values.${path}` };
}

/** The texts of a list with commas between them, as a part of a text. */
export function joined(list: readonly string[]): string {
  const path = pathOf(list);
  return path === null ? list.join(',') : textSlot(`${path}${joinMark}`);
}

/** The value for a path of {@link textParts}, as an expression of templates. */
export function expressionOf(path: string): string {
  if (path === 'namespace') return `(${namespaceTemplate})`;
  return path.endsWith(joinMark) ? `(join "," .Values.${path.slice(0, -joinMark.length)})` : `.Values.${path}`;
}

/** Whether a text, a list or a map has anything in it. */
export function isSet(value: string | object): Condition {
  const path = pathOf(value);
  if (path !== null) return { template: `.Values.${path}` };
  return typeof value === 'string' ? value !== '' : Object.keys(value).length > 0;
}

/** The other answer. */
export function isNot(condition: Condition): Condition {
  return typeof condition === 'boolean' ? !condition : { template: `not (${condition.template})` };
}

/** Items that a list has as a value, among others: `[item, ...itemsOf(values.more)]`. */
export function itemsOf<T>(list: readonly T[]): readonly T[] {
  // What stands for a list in a chart is an object, which as an item stands for all items.
  return pathOf(list) === null ? list : [list as unknown as T];
}

/** Items of a list, on a condition: `[...itemsWhen(isWanted, item)]`. */
export function itemsWhen<T>(condition: Condition, ...items: readonly T[]): readonly T[] {
  if (typeof condition === 'boolean') return condition ? items : [];
  return [{ [`${conditionMark}${condition.template}`]: items } as T];
}

/** Fields of an object, on a condition: `{ ...fieldsWhen(isWanted, { field: value }) }`. */
export function fieldsWhen(condition: Condition, fields: object): object {
  if (typeof condition === 'boolean') return condition ? fields : {};
  return { [`${conditionMark}${condition.template}`]: fields };
}

/** Of the value that a slot is for; null: no slot. */
function pathOf(value: string | object): string | null {
  if (typeof value === 'string') {
    const [part, ...others] = textParts(value);
    return part !== undefined && others.length === 0 && 'path' in part ? part.path : null;
  }
  const [key = ''] = Object.keys(value);
  const read = readKey(key);
  return read?.kind === 'tree' ? read.path : null;
}
