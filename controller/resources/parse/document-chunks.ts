/** A part of a text that YAML reads by itself, and the lines of the text before it. */
export type DocumentChunk = { readonly text: string; readonly linesBefore: number };

/**
 * Cuts a text where a line begins with the marker `---`: inside a document there is no such line (YAML 1.2.2, §9.1.2),
 * so that each part can be read alone. A text with directives (`%YAML`), which belong to the document after them, stays
 * whole.
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

/** Where the next line with a marker begins, after the line at `start`; the end of the text when there is none. */
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
