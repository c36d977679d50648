import { keyHash, leafHas, maxLeafDepth, pageKeyOf, type RegistryLeaf } from '../../shared/wire/registry-leaf.js';
import { encodeRegistryPage, groupDigest, pageDigest } from '../../shared/wire/registry-page.js';
import type { ListedPage, RegistryRoot } from '../../shared/wire/registry-root.js';

export type RegistryTree = {
  readonly root: RegistryRoot;
  /** Keys and values of the pages in `culvert_registry`. */
  readonly pages: ReadonlyMap<string, Uint8Array>;
};

/** Made by {@link listedEntry}; the same object as long as the entry is the same. */
export type ListedEntry = {
  readonly key: string;
  readonly hash: number;
  readonly sequence: number;
  readonly sealed: Uint8Array;
};

export function listedEntry(entry: Omit<ListedEntry, 'hash'>): ListedEntry {
  return { ...entry, hash: keyHash(entry.key) };
}

/**
 * A change costs an agent one page, and the root with 43 bytes for each page: with so many keys on one, both take about
 * as much when there are 50,000, and with fewer or twice as many not much more.
 */
const maxPageKeys = 512;
/** Keys are counted by so many first bits of their hashes: two million keys have pages that are no deeper. */
const countedDepth = 12;

type BuiltPage = { readonly leaf: ListedPage; readonly bytes: Uint8Array; readonly entries: readonly ListedEntry[] };
type Part = { readonly leaf: RegistryLeaf; readonly entries: readonly ListedEntry[] };

/**
 * Lists the registry in pages. The same entries always give the same bytes; it remembers the pages that it made last, so
 * that it makes only those anew whose entries changed.
 */
export class RegistryTreeBuilder {
  #last = new Map<string, BuiltPage>();

  /** Errors: `PAYLOAD_TOO_LARGE`. */
  build(o: { readonly sequence: number; readonly entries: readonly ListedEntry[] }): RegistryTree {
    const built = partsOf(o.entries).map(({ leaf, entries }) => this.#page(leaf, entries));
    this.#last = new Map(built.map((page) => [page.leaf.key, page]));
    return {
      root: { sequence: o.sequence, pages: built.map(({ leaf }) => leaf) },
      pages: new Map(built.map(({ leaf, bytes }) => [leaf.key, bytes])),
    };
  }

  #page(leaf: RegistryLeaf, entries: readonly ListedEntry[]): BuiltPage {
    const key = pageKeyOf(leaf);
    const last = this.#last.get(key);
    if (last?.entries.length === entries.length && entries.every((entry, at) => entry === last.entries[at])) {
      return last;
    }
    const sealed = new Map(entries.map((entry) => [entry.key, entry.sealed]));
    const digest = groupDigest({ keys: sealed.keys(), sealed: (at) => sealed.get(at) }) ?? '';
    const bytes = encodeRegistryPage({ entries: new Map(entries.map((entry) => [entry.key, entry.sequence])), digest });
    return { leaf: { ...leaf, key, digest: pageDigest(bytes) }, bytes, entries };
  }
}

/** In the order of `start`. Looks at each entry twice, however many pages there are. */
function partsOf(entries: readonly ListedEntry[]): Part[] {
  const shift = 32 - countedDepth;
  const counts = new Uint32Array(2 ** countedDepth);
  for (const { hash } of entries) {
    const at = hash >>> shift;
    counts[at] = (counts[at] ?? 0) + 1;
  }
  const parts: { leaf: RegistryLeaf; entries: ListedEntry[] }[] = [];
  const partOf = new Uint32Array(counts.length);
  const cut = (leaf: RegistryLeaf): void => {
    const [from, to] = [leaf.start >>> shift, (leaf.start + sizeOf(leaf)) / 2 ** shift];
    const count = counts.subarray(from, to).reduce((sum, some) => sum + some, 0);
    if (count > maxPageKeys && leaf.depth < countedDepth) {
      for (const half of halvesOf(leaf)) cut(half);
      return;
    }
    partOf.fill(parts.length, from, to);
    parts.push({ leaf, entries: [] });
  };
  cut({ depth: 0, start: 0 });
  for (const entry of entries) parts[partOf[entry.hash >>> shift] ?? 0]?.entries.push(entry);
  return parts.flatMap(split);
}

/** In the order of `start`. */
function split({ leaf, entries }: Part): Part[] {
  if (entries.length <= maxPageKeys || leaf.depth === maxLeafDepth) return [{ leaf, entries }];
  return halvesOf(leaf).flatMap((half) =>
    split({ leaf: half, entries: entries.filter(({ hash }) => leafHas(half, hash)) }),
  );
}

function halvesOf({ depth, start }: RegistryLeaf): [RegistryLeaf, RegistryLeaf] {
  const low = { depth: depth + 1, start };
  return [low, { depth: depth + 1, start: start + sizeOf(low) }];
}

function sizeOf({ depth }: RegistryLeaf): number {
  return 2 ** (32 - depth);
}
