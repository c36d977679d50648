import { keyHash, maxLeafDepth, pageKeyOf, type RegistryLeaf } from '../../shared/wire/registry-leaf.js';
import { encodeRegistryPage, groupDigest, pageDigest } from '../../shared/wire/registry-page.js';
import type { ListedPage, RegistryRoot } from '../../shared/wire/registry-root.js';

export type RegistryTree = {
  readonly root: RegistryRoot;
  /** Keys and values of the pages in `culvert_registry`. */
  readonly pages: ReadonlyMap<string, Uint8Array>;
};

export type ListedEntry = { readonly key: string; readonly sequence: number; readonly sealed: Uint8Array };

/**
 * A change costs an agent one page, and the root with 43 bytes for each page: with so many keys on one, both take about
 * as much when there are 50,000, and with fewer or twice as many not much more.
 */
const maxPageKeys = 512;

type Hashed = ListedEntry & { readonly hash: number };
type BuiltPage = { readonly leaf: ListedPage; readonly bytes: Uint8Array; readonly entries: readonly Hashed[] };

/**
 * Lists the registry in pages. The same entries always give the same bytes; it remembers the pages that it made last, so
 * that it makes only those anew whose entries changed.
 */
export class RegistryTreeBuilder {
  #hashed = new WeakMap<Uint8Array, Hashed>();
  #last = new Map<string, BuiltPage>();

  /** Errors: `PAYLOAD_TOO_LARGE`. */
  build(o: { readonly sequence: number; readonly entries: Iterable<ListedEntry> }): RegistryTree {
    const hashed = Array.from(o.entries, (entry) => this.#hash(entry));
    const built = split(hashed, { depth: 0, start: 0 }).map(({ leaf, entries }) => this.#page(leaf, entries));
    this.#last = new Map(built.map((page) => [page.leaf.key, page]));
    return {
      root: { sequence: o.sequence, pages: built.map(({ leaf }) => leaf) },
      pages: new Map(built.map(({ leaf, bytes }) => [leaf.key, bytes])),
    };
  }

  /** Sealed bytes are of one entry only, and are made once. */
  #hash(entry: ListedEntry): Hashed {
    const known = this.#hashed.get(entry.sealed);
    if (known?.key === entry.key && known.sequence === entry.sequence) return known;
    const hashed = { ...entry, hash: keyHash(entry.key) };
    this.#hashed.set(entry.sealed, hashed);
    return hashed;
  }

  #page(leaf: RegistryLeaf, entries: readonly Hashed[]): BuiltPage {
    const key = pageKeyOf(leaf);
    const last = this.#last.get(key);
    if (last?.entries.length === entries.length && entries.every((entry, at) => entry === last.entries[at]))
      return last;
    const sealed = new Map(entries.map((entry) => [entry.key, entry.sealed]));
    const digest = groupDigest({ keys: sealed.keys(), sealed: (at) => sealed.get(at) }) ?? '';
    const bytes = encodeRegistryPage({ entries: new Map(entries.map((entry) => [entry.key, entry.sequence])), digest });
    return { leaf: { ...leaf, key, digest: pageDigest(bytes) }, bytes, entries };
  }
}

/** In the order of `start`. */
function split(entries: readonly Hashed[], leaf: RegistryLeaf): { leaf: RegistryLeaf; entries: readonly Hashed[] }[] {
  if (entries.length <= maxPageKeys || leaf.depth === maxLeafDepth) return [{ leaf, entries }];
  const depth = leaf.depth + 1;
  const middle = leaf.start + 2 ** (32 - depth);
  const low = entries.filter(({ hash }) => hash < middle);
  const high = entries.filter(({ hash }) => hash >= middle);
  return [...split(low, { depth, start: leaf.start }), ...split(high, { depth, start: middle })];
}
