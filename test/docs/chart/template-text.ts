import { stringify } from 'yaml';
import { expressionOf, readKey, textParts } from '../../../controller/install/slots.js';

/** Objects with slots as the text of a template of Helm. */
export function templateText(objects: readonly object[]): string {
  const [lines] = [objects.flatMap(documentLines)];
  return `${lines.join('\n')}\n`;
}

/** Of an object, or of several on a condition. */
function documentLines(object: object): string[] {
  const when = conditionOf(object);
  if (when === null) return ['---', ...mapLines(object, 0)];
  return [`{{- if ${when.template} }}`, ...(when.content as object[]).flatMap(documentLines), '{{- end }}'];
}

function mapLines(object: object, indent: number): string[] {
  return Object.entries(object).flatMap(([key, value]) => {
    const read = readKey(key);
    if (read === null) return fieldLines(key, value, indent);
    if (read.kind === 'tree') throw new Error(`the values of ${read.path} stand alone in a field`);
    return [`{{- if ${read.template} }}`, ...mapLines(value as object, indent), '{{- end }}'];
  });
}

function fieldLines(key: string, value: unknown, indent: number): string[] {
  const name = `${' '.repeat(indent)}${scalar(key)}:`;
  if (typeof value !== 'object' || value === null) return [`${name} ${scalar(value)}`];
  const tree = treePathOf(value);
  if (tree !== null) return [name, `${' '.repeat(indent + 2)}{{- toYaml .Values.${tree} | nindent ${indent + 2} }}`];
  const lines = Array.isArray(value) ? listLines(value, indent + 2) : mapLines(value, indent + 2);
  return lines.length === 0 ? [`${name} ${Array.isArray(value) ? '[]' : '{}'}`] : [name, ...lines];
}

function listLines(items: readonly unknown[], indent: number): string[] {
  return items.flatMap((item) => {
    const when = conditionOf(item);
    if (when !== null) {
      return [`{{- if ${when.template} }}`, ...listLines(when.content as unknown[], indent), '{{- end }}'];
    }
    const tree = typeof item === 'object' && item !== null ? treePathOf(item) : null;
    if (tree !== null) return [`{{- with .Values.${tree} }}`, `{{- toYaml . | nindent ${indent} }}`, '{{- end }}'];
    const dash = `${' '.repeat(indent)}- `;
    if (typeof item !== 'object' || item === null) return [`${dash}${scalar(item)}`];
    const [first = '{}', ...others] = Array.isArray(item) ? listLines(item, indent + 2) : mapLines(item, indent + 2);
    if (first.startsWith('{{')) throw new Error(`the first field of an item is on no condition: ${first}`);
    return [`${dash}${first.trimStart()}`, ...others];
  });
}

function conditionOf(item: unknown): { readonly template: string; readonly content: unknown } | null {
  if (typeof item !== 'object' || item === null) return null;
  const [[key, content] = ['', null]] = Object.entries(item);
  const read = readKey(key);
  return read?.kind === 'when' && Array.isArray(content) ? { template: read.template, content } : null;
}

function treePathOf(value: object): string | null {
  const read = readKey(Object.keys(value)[0] ?? '');
  return read?.kind === 'tree' ? read.path : null;
}

/** A text, number or truth value; of a text with slots, an expression that fills them in. */
function scalar(value: unknown): string {
  if (typeof value !== 'string') return String(value);
  const parts = textParts(value);
  const paths = parts.flatMap((part) => ('path' in part ? [expressionOf(part.path)] : []));
  // Helm would take it for a template of its own.
  if (paths.length === 0 && value.includes('{{')) return `{{ ${JSON.stringify(value)} | quote }}`;
  if (paths.length === 0) return plainText(value);
  if (parts.length === 1) return `{{ ${paths.join('')} | quote }}`;
  const format = parts.map((part) => ('path' in part ? '%s' : part.written.replaceAll('%', '%%'))).join('');
  return `{{ printf ${JSON.stringify(format)} ${paths.join(' ')} | quote }}`;
}

/** With quotes where Helm, which reads YAML 1.1, would take it for something else; on one line. */
function plainText(value: string): string {
  // The library folds such a text over lines that have no indentation.
  if (value.includes('\n')) return JSON.stringify(value);
  return stringify(value, { lineWidth: 0, version: '1.1', aliasDuplicateObjects: false }).trimEnd();
}
