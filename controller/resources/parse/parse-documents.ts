import { Composer, isScalar, LineCounter, type Document } from 'yaml';
import { atOnce } from '../../../shared/in-turns.js';
import { findExpansion } from './alias-expansion.js';
import { documentChunks, type DocumentChunk } from './document-chunks.js';
import { LimitError } from './document-limits.js';
import { KnownDocuments } from './known-documents.js';
import { listChunks } from './list-chunks.js';
import { itemsOf, itemTypeOf, withType, type Item, type ItemType } from './list-items.js';
import { readPlainJson } from './plain-json.js';
import { formatPath, type Problem } from '../kinds/problem.js';
import { readResource } from './read-resource.js';
import { formatResourceId, resourceId, resourceKey } from '../kinds/resource-key.js';
import type { Resource } from '../kinds/resource.js';
import {
  lineAt,
  lineOfPath,
  maxNestedAliases,
  writtenAt,
  yamlProblems,
  yamlToJson,
  yamlTokens,
} from './yaml-document.js';

/** Limits of one input, in characters and in documents. */
const maxInputLength = 32 * 1024 * 1024;
/** Of one part of an input that is parsed alone: a document, or an item of a list; also with its aliases expanded. */
export const maxDocumentLength = 1024 * 1024;
export const maxDocuments = 20_000;
/** Further problems are counted, not listed. */
const maxProblems = 200;

/** Where a resource is written, for problems that are found later. */
export type ResourceLocation = {
  readonly fileName: string | null;
  readonly document: number;
  /** The line of the deepest part of `path` that exists in the document. */
  readonly lineOf: (path: readonly PropertyKey[]) => number | null;
};

export type ParsedDocuments = {
  /** The valid documents. Check `problems` first: an input is used as a whole or not at all. */
  readonly resources: readonly Resource[];
  /** All problems of all documents, in text order. All are errors. */
  readonly problems: readonly Problem[];
  /** By resource key. */
  readonly locations: ReadonlyMap<string, ResourceLocation>;
};

/**
 * Parses YAML or JSON with any number of documents. Unknown fields and kinds, duplicates, excessive alias expansion,
 * `__proto__` and unknown tags are problems; nothing is dropped or thrown. Empty documents are skipped.
 */
export function parseDocuments(text: string, { fileName = null }: ParseOptions = {}): ParsedDocuments {
  return atOnce(parsingDocuments(text, { fileName }));
}

/** {@link parseDocuments} in steps, a document or list item each: thousands of documents take seconds. */
export function* parsingDocuments(
  text: string,
  { fileName = null }: ParseOptions = {},
): Generator<void, ParsedDocuments> {
  const input = new Input(fileName);
  yield* input.reading(text);
  return input.result();
}

export type ParseOptions = { readonly fileName?: string | null };

const knownDocuments = new KnownDocuments({ maxDocuments: 32_768 });

type Finding = {
  readonly offset: number | null;
  readonly line?: number | null;
  readonly resource?: string | null;
  readonly path?: string;
  readonly message: string;
  readonly hint: string;
};

const tooMuch = {
  message: `its aliases expand to too much: more than ${maxDocumentLength} characters`,
  hint: 'write the values out instead of using aliases',
} as const;
/** The library counts them when it makes plain data of a document. */
const tooOften = `its aliases expand to too much: more than ${maxNestedAliases} aliases within aliases`;

/** In YAML or JSON. For a hint only: the text is not parsed. */
const listKind = /(?:^|[\s{,"])kind"?\s*:\s*"?\w*List\b/;

function isEmpty({ contents, errors }: Document.Parsed): boolean {
  return errors.length === 0 && (contents === null || (isScalar(contents) && contents.value === null));
}

function composeChunk(text: string, lines: LineCounter): Generator<Document.Parsed> {
  // The library compares each key with all before it; yamlProblems finds repeated ones in linear time.
  const composer = new Composer({ merge: true, stringKeys: true, strict: true, uniqueKeys: false });
  return composer.compose(yamlTokens(text, lines));
}

/** Parses a part with one document again to find a line, which is only needed when something is wrong. */
function lineInChunk({ text, linesBefore }: DocumentChunk, path: readonly PropertyKey[]): number | null {
  const lines = new LineCounter();
  for (const document of composeChunk(text, lines)) {
    if (!isEmpty(document)) return below(linesBefore, lineOfPath(document, lines, path));
  }
  return null;
}

function below(linesBefore: number, line: number | null): number | null {
  return line === null ? null : linesBefore + line;
}

/** The state of parsing one text. */
class Input {
  readonly #fileName: string | null;
  /** The part that is being parsed, and the number of lines before it. */
  #lines = new LineCounter();
  #linesBefore = 0;
  readonly #resources = new Map<string, Resource>();
  readonly #locations = new Map<string, ResourceLocation>();
  readonly #problems: Problem[] = [];
  #unlisted = 0;
  #documents = 0;

  constructor(fileName: string | null) {
    this.#fileName = fileName;
  }

  /** One step for each part of the text. */
  *reading(text: string): Generator<void> {
    if (text.length > maxInputLength) {
      return this.add({ offset: null, message: `is larger than ${maxInputLength} characters`, hint: 'split it' });
    }
    for (const chunk of documentChunks(text)) {
      if (this.#documents > maxDocuments) return;
      try {
        yield* this.readingChunk(chunk);
      } catch (error) {
        if (!(error instanceof LimitError)) throw error;
        return this.add(error);
      }
      yield;
    }
    if (this.#documents === 0) {
      this.add({ offset: null, message: 'there is no resource in the input', hint: 'check the file that you gave' });
    }
  }

  *readingChunk(chunk: DocumentChunk): Generator<void> {
    const known = knownDocuments.find(chunk.text) ?? this.#readPlain(chunk.text);
    if (known !== undefined) {
      if (this.#count(0)) this.#keep(known, (path) => lineInChunk(chunk, path));
      return;
    }
    const list = listChunks(chunk);
    const type = list === undefined ? null : this.#readListHead(list.head);
    if (list !== undefined && type !== null) return yield* this.readingListItems(list.items, type);
    // Before it is composed, which takes seconds for some texts of this size.
    if (chunk.text.length > maxDocumentLength) return this.#refuseTooLarge(chunk);
    const problemsBefore = this.#problems.length + this.#unlisted;
    const read: Item[] = [];
    let only: Resource | undefined;
    for (const document of this.#composed(chunk)) {
      if (!this.#count(document.range[0])) return;
      const json = this.#readDocument(document);
      if (json === undefined) continue;
      for (const [index, item] of itemsOf({ json, path: [], place: [] }).entries()) {
        if (index > 0 && !this.#count(document.range[0])) return;
        read.push(item);
        only = this.#readItem(document, item);
      }
    }
    const isClean = problemsBefore === this.#problems.length + this.#unlisted;
    // An item of a list is not its whole text.
    if (only !== undefined && read.length === 1 && read[0]?.path.length === 0 && isClean) {
      knownDocuments.add(chunk.text, only);
      this.#locateInText(only, (path) => lineInChunk(chunk, path));
    }
  }

  /** The documents of a part that are not empty. From then on, problems are in lines of this part. */
  *#composed({ text, linesBefore }: DocumentChunk): Generator<Document.Parsed> {
    this.#lines = new LineCounter();
    this.#linesBefore = linesBefore;
    for (const document of composeChunk(text, this.#lines)) if (!isEmpty(document)) yield document;
  }

  /** Null: it is no list, or its text has problems, which are found when it is read as a whole. */
  #readListHead(head: DocumentChunk): ItemType | null {
    const [document, ...others] = this.#composed(head);
    if (document === undefined || others.length > 0 || yamlProblems(document).length > 0) return null;
    return itemTypeOf(yamlToJson(document));
  }

  *readingListItems(items: readonly DocumentChunk[], type: ItemType): Generator<void> {
    for (const [index, chunk] of items.entries()) {
      for (const document of this.#composed(chunk)) {
        if (!this.#count(document.range[0])) return;
        const sequence = this.#readDocument(document);
        if (!Array.isArray(sequence)) continue;
        const json = withType(type, sequence[0]);
        for (const item of itemsOf({ json, path: [0], place: ['items', index] })) this.#readItem(document, item);
      }
      yield;
    }
  }

  /** Takes the fast path for valid JSON from programs; for anything invalid the YAML reader reports better. */
  #readPlain(text: string): Resource | undefined {
    const json = text.length > maxDocumentLength ? undefined : readPlainJson(text);
    const read = json === undefined ? undefined : readResource(json);
    if (read === undefined || !('resource' in read)) return undefined;
    knownDocuments.add(text, read.resource);
    return read.resource;
  }

  /** False: there are too many documents. */
  #count(offset: number): boolean {
    if (++this.#documents <= maxDocuments) return true;
    this.add({ offset, message: `is more than ${maxDocuments} documents`, hint: 'split it' });
    return false;
  }

  #refuseTooLarge({ text, linesBefore }: DocumentChunk): void {
    this.#documents++;
    const hint = listKind.test(text) ? 'split it, or write it as YAML with one item below the other' : 'split it';
    const message = `is larger than ${maxDocumentLength} characters`;
    this.add({ offset: null, line: linesBefore + 1, message, hint });
  }

  /** The document as plain data; undefined: it is not readable, and the problems say why. */
  #readDocument(document: Document.Parsed): unknown {
    const unreadable = yamlProblems(document);
    for (const problem of unreadable) this.add(problem);
    if (unreadable.length > 0) return undefined;
    const expansion = findExpansion(document, maxDocumentLength);
    if (expansion !== undefined) this.add({ offset: expansion, ...tooMuch });
    return expansion === undefined ? this.#toJson(document) : undefined;
  }

  #readItem(document: Document.Parsed, { json, path: itemPath, place }: Item): Resource | undefined {
    const { lines, linesBefore } = { lines: this.#lines, linesBefore: this.#linesBefore };
    const lineOf = (path: readonly PropertyKey[]): number | null =>
      below(linesBefore, lineOfPath(document, lines, [...itemPath, ...path]));
    const read = readResource(json, (path) => writtenAt(document, [...itemPath, ...path]));
    if ('resource' in read) {
      this.#keep(read.resource, lineOf);
      return read.resource;
    }
    for (const { path, message, hint } of read.problems) {
      // An item without a readable name is named by its place.
      const named = read.name === null ? [...place, ...path] : path;
      this.add({ offset: null, line: lineOf(path), resource: read.name, path: formatPath(named), message, hint });
    }
    return undefined;
  }

  #toJson(document: Document.Parsed): unknown {
    try {
      return yamlToJson(document);
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error;
      const isUnknown = error.message.startsWith('Unresolved alias');
      const message = isUnknown ? 'an alias has no anchor' : tooOften;
      this.add({ offset: document.range[0], ...tooMuch, message });
      return undefined;
    }
  }

  #keep(resource: Resource, lineOf: ResourceLocation['lineOf']): void {
    const key = resourceKey(resource);
    const first = this.#locations.get(key);
    if (first === undefined) {
      this.#resources.set(key, resource);
      this.#locations.set(key, { fileName: this.#fileName, document: this.#documents, lineOf });
      return;
    }
    this.add({
      offset: null,
      line: lineOf(['metadata', 'name']),
      resource: formatResourceId(resourceId(resource)),
      path: 'metadata.name',
      message: `is written twice, first in line ${String(first.lineOf(['metadata', 'name']))}`,
      hint: 'keep one of the two, or give one another name',
    });
  }

  /** Lets go of the tree of a document, which takes many times the memory of its text. */
  #locateInText(resource: Resource, lineOf: ResourceLocation['lineOf']): void {
    const key = resourceKey(resource);
    const location = this.#locations.get(key);
    if (location !== undefined) this.#locations.set(key, { ...location, lineOf });
  }

  add({ offset, line, resource = null, path = '', message, hint }: Finding): void {
    if (this.#problems.length >= maxProblems) {
      this.#unlisted++;
      return;
    }
    this.#problems.push({
      severity: 'error',
      fileName: this.#fileName,
      document: this.#documents === 0 ? null : this.#documents,
      line: line ?? (offset === null ? null : this.#linesBefore + lineAt(this.#lines, offset)),
      resource,
      path,
      message,
      hint,
    });
  }

  result(): ParsedDocuments {
    const problems = [...this.#problems].sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
    const last = problems.at(-1);
    if (last !== undefined && this.#unlisted > 0) {
      const message = `and ${this.#unlisted} more problems that are not listed`;
      problems.push({ ...last, resource: null, path: '', message, hint: 'correct the ones above first' });
    }
    return { resources: [...this.#resources.values()], problems, locations: this.#locations };
  }
}
