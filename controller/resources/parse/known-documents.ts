import { createHash } from 'node:crypto';
import type { Resource } from '../kinds/resource.js';

/**
 * Caches valid documents by their text. Users apply the same thousands of documents again with one changed, and parsing
 * YAML takes most of the time. The oldest entries are evicted.
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

  /** The resource is shared by all callers; do not modify it. */
  add(text: string, resource: Resource): void {
    const oldest = this.#resources.keys().next().value;
    if (this.#resources.size >= this.#maxDocuments && oldest !== undefined) this.#resources.delete(oldest);
    this.#resources.set(digest(text), resource);
  }
}

/** A digest, because a slice of the text would keep the whole input in memory. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}
