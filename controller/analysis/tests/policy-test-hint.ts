import { documentChunks } from '../../resources/parse/document-chunks.js';

/**
 * A fast check before parsing YAML. False: no document of the text can be a PolicyTest or a bare list of assertions.
 * True: parse to find out. Takes a few milliseconds for thousands of rules.
 */
export function mayHoldPolicyTests(text: string): boolean {
  for (const chunk of documentChunks(text)) {
    // Another document may follow within the part, and an escape may hide the word.
    if (/PolicyTest|\\|^\.\.\.|^%/m.test(chunk.text)) return true;
    const first = firstCharacter(chunk.text);
    if (first !== undefined && !/[A-Za-z"'{]/.test(first)) return true;
  }
  return false;
}

/** The first character of the content, after markers, comments and empty lines. */
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
