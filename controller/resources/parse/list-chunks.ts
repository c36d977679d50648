import type { DocumentChunk } from './document-chunks.js';

/** A list document in parts that can be parsed alone, so that a list of thousands is read in steps. */
export type ListChunks = {
  /** The list without its items, with as many lines. */
  readonly head: DocumentChunk;
  /** Each is a sequence of one item. */
  readonly items: readonly DocumentChunk[];
};

/** An anchor in one item may be used in another. */
const anchorOrAlias = /(?:^|[\s[{,:-])[&*][^\s]/m;
const itemsField = /^items:[ \t]*(?:#.*)?\r?$/;

/**
 * Splits a document whose field `items` is a block sequence, as `kubectl get -o yaml` writes it. Undefined for all other
 * texts: they are parsed as a whole. What belongs to an item is indented further than its `-` (YAML 1.2.2, §8.2), so a
 * line that begins with `-` at the same column begins the next item.
 */
export function listChunks({ text, linesBefore }: DocumentChunk): ListChunks | undefined {
  if (!/^kind: *"?\w*List"?[ \t]*\r?$/m.test(text) || anchorOrAlias.test(text)) return undefined;
  const lines = text.split(/(?<=\n)/);
  const start = lines.findIndex((line) => itemsField.test(line.trimEnd()));
  const first = lines.findIndex((line, index) => index > start && !isBlank(line));
  const indent = /^( *)-(?:\s|$)/.exec(lines[first] ?? '')?.[1]?.length;
  if (start < 0 || indent === undefined) return undefined;
  const starts: number[] = [];
  let end = first;
  for (; end < lines.length; end++) {
    const line = lines[end] ?? '';
    if (isBlank(line)) continue;
    const column = line.search(/[^ ]/);
    const isItem = column === indent && /^-(?:\s|$)/.test(line.slice(column));
    if (isItem) starts.push(end);
    else if (column <= indent) break;
  }
  const items = starts.map((at, index) => ({
    text: lines.slice(at, starts[index + 1] ?? end).join(''),
    linesBefore: linesBefore + at,
  }));
  const blank = Array.from({ length: end - first }, () => '\n');
  const head = [...lines.slice(0, first), ...blank, ...lines.slice(end)].join('');
  return { head: { text: head, linesBefore }, items };
}

/** Of no column: nothing, or a comment. */
function isBlank(line: string): boolean {
  return /^\s*(?:#|$)/.test(line);
}
