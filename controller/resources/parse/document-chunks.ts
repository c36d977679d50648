/** A part of a text that can be parsed as YAML on its own, and the number of lines before it. */
export type DocumentChunk = { readonly text: string; readonly linesBefore: number };

/**
 * Splits a text at lines that begin with the marker `---`. No line inside a document begins with it (YAML 1.2.2,
 * §9.1.2), so each part can be parsed alone. A text with directives (`%YAML`), which belong to the document after them,
 * is not split.
 */
export function* documentChunks(text: string): Generator<DocumentChunk> {
  if (text.startsWith('%') || text.startsWith('\uFEFF%') || text.includes('\n%')) {
    yield { text, linesBefore: 0 };
    return;
  }
  let start = 0;
  let linesBefore = 0;
  while (start < text.length) {
    const end = nextMarker(text, start);
    const chunk = text.slice(start, end);
    yield { text: chunk, linesBefore };
    linesBefore += countLines(chunk);
    start = end;
  }
}

/** The offset of the next line with a marker after the line at `start`, or the end of the text. */
function nextMarker(text: string, start: number): number {
  for (let at = text.indexOf('\n---', start); at >= 0; at = text.indexOf('\n---', at + 1)) {
    const after = text[at + 4];
    if (after === undefined || after === '\n' || after === '\r' || after === ' ' || after === '\t') return at + 1;
  }
  return text.length;
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
