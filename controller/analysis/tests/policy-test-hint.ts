import { documentChunks } from '../../resources/parse/document-chunks.js';

/**
 * False when no document of a text can be a PolicyTest or a bare list of assertions. True says nothing: then the text has
 * to be read as YAML. An input of thousands of rules is looked through in a few milliseconds.
 */
export function mayHoldPolicyTests(text: string): boolean {
  for (const chunk of documentChunks(text)) {
    // Another document may follow within the part, and an escape may spell the word.
    if (/PolicyTest|\\|^\.\.\.|^%/m.test(chunk.text)) return true;
    const first = firstCharacter(chunk.text);
    if (first !== undefined && !/[A-Za-z"'{]/.test(first)) return true;
  }
  return false;
}

/** The first one of the content: not of the marker, of a comment or of an empty line. */
function firstCharacter(chunk: string): string | undefined {
  const text = chunk.startsWith('---') ? chunk.slice(3) : chunk;
  let at = 0;
  while (at < text.length) {
    const character = text[at] ?? '';
    if (character === '#') {
      const end = text.indexOf('\n', at);
      if (end < 0) return undefined;
      at = end;
    } else if (!/\s/.test(character)) return character;
    at++;
  }
  return undefined;
}
