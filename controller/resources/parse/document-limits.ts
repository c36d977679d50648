import { CST } from 'yaml';

/** Limits of one part of an input: a document, or an item of a list. Its length is limited too, before any of this. */
const most = {
  /** No resource is nested this deeply; the library recurses and takes seconds to fail on deeper ones. */
  levels: 64,
  /** Room for a segment with tens of thousands of members. */
  entries: 100_000,
  anchors: 1000,
  /** What an alias stands for is looked up among all anchors before it, so the time grows with the product of both. */
  aliases: 1000,
} as const;

/** A document is larger than documents may be. The message names the limit. */
export class LimitError extends Error {
  readonly offset: number;
  readonly hint: string;

  constructor(init: { readonly offset: number; readonly message: string; readonly hint: string }) {
    super(init.message);
    this.name = 'LimitError';
    this.offset = init.offset;
    this.hint = init.hint;
  }
}

/** Counts what each document of a text has while it is split into lexemes: too much is refused before anything is made of it. */
export class DocumentLimits {
  #flows = 0;
  #entries = 0;
  #anchors = 0;
  #aliases = 0;
  #isScalarNext = false;

  /** `depth`: how many collections are open. `offset`: where the lexeme ends. Throws {@link LimitError}. */
  count(lexeme: string, depth: number, offset: number): void {
    if (depth > most.levels) refuse(offset, `is nested too deeply: more than ${most.levels} levels`, fewerLevels);
    // After this mark comes the text of a scalar, which may look like anything.
    const type = this.#isScalarNext ? null : CST.tokenType(lexeme);
    this.#isScalarNext = type === 'scalar';
    switch (type) {
      case 'doc-mode':
        this.#flows = this.#entries = this.#anchors = this.#aliases = 0;
        break;
      case 'flow-map-start':
      case 'flow-seq-start':
        this.#flows++;
        this.#entry(offset);
        break;
      case 'flow-map-end':
      case 'flow-seq-end':
        this.#flows--;
        break;
      case 'map-value-ind':
        // In flow style the commas are counted.
        if (this.#flows <= 0) this.#entry(offset);
        break;
      case 'seq-item-ind':
      case 'comma':
        this.#entry(offset);
        break;
      case 'anchor':
        if (++this.#anchors > most.anchors) refuse(offset, `has more than ${most.anchors} anchors`, writtenOut);
        break;
      case 'alias':
        if (++this.#aliases > most.aliases) refuse(offset, `has more than ${most.aliases} aliases`, writtenOut);
        break;
      default:
        break;
    }
  }

  #entry(offset: number): void {
    if (++this.#entries <= most.entries) return;
    refuse(offset, `has more than ${most.entries} fields and list items`, 'split it');
  }
}

const fewerLevels = 'write it with fewer levels';
const writtenOut = 'write the values out instead of using aliases';

/** At the beginning of the lexeme's last character: what ends with a line is in that line. */
function refuse(offset: number, message: string, hint: string): never {
  throw new LimitError({ offset: Math.max(0, offset - 1), message, hint });
}
