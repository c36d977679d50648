import { Composer, isScalar, LineCounter, type Document } from 'yaml';
import { formatPath, type Problem } from './problem.js';
import { readResource } from './read-resource.js';
import { formatResourceId, resourceId, resourceKey } from './resource-key.js';
import type { Resource } from './resource.js';
import { TooDeepError, lineAt, lineOfPath, yamlProblems, yamlToJson, yamlTokens } from './yaml-document.js';

/** Limits of one input, in characters and in documents. */
export const maxInputLength = 32 * 1024 * 1024;
export const maxDocumentLength = 1024 * 1024;
export const maxDocuments = 10_000;
/** More problems than a person reads are counted, not listed. */
const maxProblems = 200;

/** Where a resource was written, for problems that are found later. */
export type ResourceLocation = {
  readonly fileName: string | null;
  readonly document: number;
  /** The line of the deepest part of `path` that was written. */
  readonly lineOf: (path: readonly PropertyKey[]) => number | null;
};

export type ParsedDocuments = {
  /** The documents without a problem. An input is used whole or not at all: look at `problems` first. */
  readonly resources: readonly Resource[];
  /** Every problem of every document, in the order of the text. All are errors. */
  readonly problems: readonly Problem[];
  /** By resource key. */
  readonly locations: ReadonlyMap<string, ResourceLocation>;
};

/**
 * Reads YAML or JSON with any number of documents. Unknown fields and kinds, duplicates, aliases that expand to too
 * much, `__proto__` and unknown tags are problems; nothing is dropped and nothing is thrown. Empty documents are skipped.
 */
export function parseDocuments(text: string, { fileName = null }: { fileName?: string | null } = {}): ParsedDocuments {
  const input = new Input(fileName);
  try {
    input.read(text);
  } catch (error) {
    if (!(error instanceof TooDeepError)) throw error;
    input.add({ offset: error.offset, message: 'is nested too deeply', hint: 'write it with fewer levels' });
  }
  return input.result();
}

type Finding = {
  readonly offset: number | null;
  readonly line?: number | null;
  readonly resource?: string | null;
  readonly path?: string;
  readonly message: string;
  readonly hint: string;
};

function isEmpty({ contents, errors }: Document.Parsed): boolean {
  return errors.length === 0 && (contents === null || (isScalar(contents) && contents.value === null));
}

/** What has been read of one text so far. */
class Input {
  readonly #fileName: string | null;
  readonly #lines = new LineCounter();
  readonly #resources = new Map<string, Resource>();
  readonly #locations = new Map<string, ResourceLocation>();
  readonly #problems: Problem[] = [];
  #unlisted = 0;
  #documents = 0;

  constructor(fileName: string | null) {
    this.#fileName = fileName;
  }

  read(text: string): void {
    if (text.length > maxInputLength) {
      return this.add({ offset: null, message: `is larger than ${maxInputLength} characters`, hint: 'split it' });
    }
    const composer = new Composer({ merge: true, stringKeys: true, strict: true, uniqueKeys: true });
    for (const document of composer.compose(yamlTokens(text, this.#lines))) {
      if (isEmpty(document)) continue;
      if (++this.#documents > maxDocuments) {
        return this.add({
          offset: document.range[0],
          message: `is more than ${maxDocuments} documents`,
          hint: 'split it',
        });
      }
      this.#readDocument(document);
    }
    if (this.#documents === 0) {
      this.add({ offset: null, message: 'there is no resource in the input', hint: 'check the file that you gave' });
    }
  }

  #readDocument(document: Document.Parsed): void {
    const [start, end] = document.range;
    if (end - start > maxDocumentLength) {
      return this.add({ offset: start, message: `is larger than ${maxDocumentLength} characters`, hint: 'split it' });
    }
    const unreadable = yamlProblems(document);
    for (const problem of unreadable) this.add(problem);
    if (unreadable.length > 0) return;
    const json = this.#toJson(document);
    if (json === undefined) return;
    const read = readResource(json);
    if ('resource' in read) return this.#keep(document, read.resource);
    for (const { path, message, hint } of read.problems) {
      const line = lineOfPath(document, this.#lines, path);
      this.add({ offset: start, line, resource: read.name, path: formatPath(path), message, hint });
    }
  }

  #toJson(document: Document.Parsed): unknown {
    try {
      return yamlToJson(document);
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error;
      const isUnknown = error.message.startsWith('Unresolved alias');
      const message = isUnknown ? 'an alias has no anchor' : 'its aliases expand to too much';
      this.add({ offset: document.range[0], message, hint: 'write the values out instead of using aliases' });
      return undefined;
    }
  }

  #keep(document: Document.Parsed, resource: Resource): void {
    const key = resourceKey(resource);
    const lines = this.#lines;
    const lineOf = (path: readonly PropertyKey[]) => lineOfPath(document, lines, path);
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

  add({ offset, line, resource = null, path = '', message, hint }: Finding): void {
    if (this.#problems.length >= maxProblems) {
      this.#unlisted++;
      return;
    }
    this.#problems.push({
      severity: 'error',
      fileName: this.#fileName,
      document: this.#documents === 0 ? null : this.#documents,
      line: line ?? (offset === null ? null : lineAt(this.#lines, offset)),
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
