/**
 * Two texts as the lines in which they differ, with `contextLines` equal lines around each place. At most `maxLines` lines
 * come out, none longer than `maxWidth`; what is left out is counted.
 */
export type DiffLimits = { readonly contextLines: number; readonly maxLines: number; readonly maxWidth: number };

type DiffLine = { readonly sign: ' ' | '+' | '-'; readonly text: string };

/** Above this many cells the table of the longest common subsequence costs too much; the lines are listed instead. */
const maxTableCells = 4_000_000;

/** `+` marks a line of `actual` only, `-` a line of `expected` only, as node:assert does. */
export function differingLines(actual: string, expected: string, limits: DiffLimits): string[] {
  const all = compare(actual.split('\n'), expected.split('\n'));
  const isNear = nearDifferences(all, limits.contextLines);
  const lines: string[] = [];
  let left = 0;
  for (const [index, { sign, text }] of all.entries()) {
    if (isNear[index] === true && lines.length < limits.maxLines) {
      if (left > 0) lines.push(`... ${left} equal lines`);
      left = 0;
      lines.push(`${sign} ${narrow(text, partnerOf(all, index), limits.maxWidth)}`);
    } else left++;
  }
  if (lines.length < limits.maxLines) return left > 0 ? [...lines, `... ${left} equal lines`] : lines;
  return left > 0 ? [...lines, `... ${left} lines more`] : lines;
}

function compare(actual: readonly string[], expected: readonly string[]): DiffLine[] {
  let start = 0;
  while (start < actual.length && start < expected.length && actual[start] === expected[start]) start++;
  let end = 0;
  const shorter = Math.min(actual.length, expected.length) - start;
  while (end < shorter && actual[actual.length - 1 - end] === expected[expected.length - 1 - end]) end++;
  return [
    ...actual.slice(0, start).map((text) => ({ sign: ' ', text }) as const),
    ...compareMiddle(actual.slice(start, actual.length - end), expected.slice(start, expected.length - end)),
    ...actual.slice(actual.length - end).map((text) => ({ sign: ' ', text }) as const),
  ];
}

/** By the longest common subsequence. */
function compareMiddle(actual: readonly string[], expected: readonly string[]): DiffLine[] {
  const width = expected.length + 1;
  const added = actual.map((text): DiffLine => ({ sign: '+', text }));
  const missing = expected.map((text): DiffLine => ({ sign: '-', text }));
  if ((actual.length + 1) * width > maxTableCells) return [...added, ...missing];
  const longest = new Uint32Array((actual.length + 1) * width);
  const at = (row: number, column: number): number => longest[row * width + column] ?? 0;
  for (let row = actual.length - 1; row >= 0; row--) {
    for (let column = expected.length - 1; column >= 0; column--) {
      longest[row * width + column] =
        actual[row] === expected[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const lines: DiffLine[] = [];
  let [row, column] = [0, 0];
  while (row < actual.length || column < expected.length) {
    const [own, other] = [added[row], missing[column]];
    if (own !== undefined && own.text === other?.text) {
      lines.push({ sign: ' ', text: own.text });
      row++;
      column++;
    } else if (own !== undefined && (other === undefined || at(row + 1, column) >= at(row, column + 1))) {
      lines.push(own);
      row++;
    } else if (other !== undefined) {
      lines.push(other);
      column++;
    }
  }
  return lines;
}

function nearDifferences(lines: readonly DiffLine[], contextLines: number): boolean[] {
  const isNear = lines.map(() => false);
  for (const [index, { sign }] of lines.entries()) {
    if (sign === ' ') continue;
    const from = Math.max(0, index - contextLines);
    isNear.fill(true, from, index + contextLines + 1);
  }
  return isNear;
}

/** The line that a changed one is probably the other version of, or itself. */
function partnerOf(lines: readonly DiffLine[], index: number): string {
  const line = lines[index];
  if (line === undefined || line.sign === ' ') return line?.text ?? '';
  const step = line.sign === '+' ? 1 : -1;
  const other = lines[index + step];
  return other === undefined || other.sign === ' ' || other.sign === line.sign ? line.text : other.text;
}

/** The part of a long line around the first character that differs. */
function narrow(text: string, partner: string, maxWidth: number): string {
  if (text.length <= maxWidth) return text;
  let first = 0;
  while (first < text.length && first < partner.length && text[first] === partner[first]) first++;
  if (first === text.length) first = 0;
  const from = Math.max(0, Math.min(first - Math.floor(maxWidth / 3), text.length - maxWidth));
  const to = Math.min(text.length, from + maxWidth);
  const before = from > 0 ? `[${from} characters] ` : '';
  const after = to < text.length ? ` [${text.length - to} characters]` : '';
  return `${before}${text.slice(from, to)}${after}`;
}
