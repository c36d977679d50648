import { createHash } from 'node:crypto';
import type { Resource } from '../kinds/resource.js';

/**
 * Documents that were read before and had no problem, by their text. People apply the same thousands of documents again
 * and again with one of them changed, and reading YAML is what takes the time. The oldest give way.
 */
export class KnownDocuments {
  readonly #resources = new Map<string, Resource>();
  readonly #maxDocuments: number;

  constructor({ maxDocuments }: { readonly maxDocuments: number }) {
    this.#maxDocuments = maxDocuments;
  }

  find(text: string): Resource | undefined {
    return this.#resources.get(digest(text));
  }

  /** The resource is shared by all who find it: nobody may change it. */
  add(text: string, resource: Resource): void {
    const oldest = this.#resources.keys().next().value;
    if (this.#resources.size >= this.#maxDocuments && oldest !== undefined) this.#resources.delete(oldest);
    this.#resources.set(digest(text), resource);
  }
}

/** Not the text itself: it would keep the whole input in memory that it is a part of. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}
