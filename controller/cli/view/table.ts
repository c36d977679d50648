import { paint, terminalColumns, type Colour } from './terminal.js';

const gap = '  ';
/** No column is shortened below this. */
const leastWidth = 6;

/** Words that tell good from bad, in the columns that have them. */
const colouredColumns: ReadonlySet<string> = new Set(['STATE', 'ACTION', 'VERDICT', 'CAPTURED', 'DEFAULT ACTION']);
const colours: Readonly<Record<string, Colour>> = {
  ready: 'green',
  allow: 'green',
  yes: 'green',
  pending: 'yellow',
  joined: 'yellow',
  behind: 'red',
  stale: 'red',
  deny: 'red',
  no: 'red',
};

/**
 * Aligns columns with two spaces between them and no trailing space. An empty cell shows as `-`. On a terminal the widest
 * cells are shortened (`…`) until a line fits, unless `isWide`.
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  { isWide = false }: { readonly isWide?: boolean } = {},
): string {
  const lines = [header, ...rows.map((row) => row.map((cell) => (cell === '' ? '-' : printable(cell))))];
  const wanted = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const widths = isWide ? wanted : fitting(wanted, terminalColumns());
  return lines
    .map((line, row) => {
      const cells = line.map((cell, column) => shortened(cell, widths[column] ?? 0).padEnd(widths[column] ?? 0));
      const text = cells.map((cell, column) => {
        const colour =
          row > 0 && colouredColumns.has(header[column] ?? '') ? colours[cell.trim().toLowerCase()] : undefined;
        return column === cells.length - 1 ? paint(cell.trimEnd(), colour) : paint(cell, colour);
      });
      return text.join(gap).trimEnd();
    })
    .join('\n');
}

/** Takes from the widest columns what is too much. */
function fitting(widths: readonly number[], columns: number | null): number[] {
  const fitted = [...widths];
  if (columns === null) return fitted;
  let excess = fitted.reduce((sum, width) => sum + width, gap.length * (fitted.length - 1)) - columns;
  while (excess > 0) {
    const widest = Math.max(...fitted);
    if (widest <= leastWidth) break;
    const column = fitted.indexOf(widest);
    fitted[column] = widest - 1;
    excess -= 1;
  }
  return fitted;
}

function shortened(cell: string, width: number): string {
  return cell.length <= width ? cell : `${cell.slice(0, Math.max(1, width - 1))}…`;
}

/** Replaces control characters: text that agents report must not control the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
}
