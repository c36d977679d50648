/** Larger texts are shown as removed and added whole, because the table of the comparison grows with the product of both. */
const maxCells = 4_000_000;

/** The line diff of two texts: ` ` kept, `-` removed, `+` added. */
export function lineDiff(before: string, after: string): string[] {
  const [old, fresh] = [linesOf(before), linesOf(after)];
  if (old.length * fresh.length > maxCells) return [...marked('-', old), ...marked('+', fresh)];
  const width = fresh.length + 1;
  // Length of the longest common subsequence of the lines from i in the old text and from j in the new one.
  const common = new Uint32Array((old.length + 1) * width);
  const at = (i: number, j: number): number => common[i * width + j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = fresh.length - 1; j >= 0; j--) {
      common[i * width + j] = old[i] === fresh[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < old.length && j < fresh.length) {
    if (old[i] === fresh[j]) {
      lines.push(` ${old[i++] ?? ''}`);
      j++;
    } else if (at(i + 1, j) >= at(i, j + 1)) lines.push(`-${old[i++] ?? ''}`);
    else lines.push(`+${fresh[j++] ?? ''}`);
  }
  return [...lines, ...marked('-', old.slice(i)), ...marked('+', fresh.slice(j))];
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.trimEnd().split('\n');
}

function marked(mark: '-' | '+', lines: readonly string[]): string[] {
  return lines.map((line) => mark + line);
}
