import { keyHash, maxLeafDepth, pageKeyOf, type RegistryLeaf } from '../../shared/wire/registry-leaf.js';
import { encodeRegistryPage, pageDigest, pagePart, type PagePart } from '../../shared/wire/registry-page.js';
import type { ListedPage, RegistryRoot } from '../../shared/wire/registry-root.js';

/** A sealed entry and what its page needs of it, made by {@link listedEntry}. */
export type ListedEntry = PagePart & {
  readonly key: string;
  readonly hash: number;
  readonly sequence: number;
  readonly sealed: Uint8Array;
};

export function listedEntry({ key, sequence, sealed }: Pick<ListedEntry, 'key' | 'sequence' | 'sealed'>): ListedEntry {
  const { text, hashed } = pagePart({ key, sequence, sealed });
  return { key, hash: keyHash(key), sequence, sealed, text, hashed };
}

/** A new root, and how the pages changed since the one before. */
export type PagesUpdate = {
  readonly root: RegistryRoot;
  /** Keys and values, in `culvert_registry`, of new and changed pages. */
  readonly changed: ReadonlyMap<string, Uint8Array>;
  /** Keys of pages that are gone. */
  readonly gone: readonly string[];
};

/**
 * For a change, an agent receives one page, and the root with 43 bytes per page. With this limit both have about the same
 * size at 50,000 keys; half or twice the limit costs little more.
 */
const maxPageKeys = 512;

type Built = { readonly listed: ListedPage; readonly bytes: Uint8Array };
type Leaf = RegistryLeaf & {
  /** In the order of their keys. A page is built for each change, and sorting it would take longer than the rest. */
  readonly entries: ListedEntry[];
  /** Null when it must be built: it is new or has changed. */
  built: Built | null;
};

/**
 * Divides the registry into pages. A page with more than {@link maxPageKeys} keys is split, and two halves that fit into
 * one page are merged. So the keys alone decide the pages, and the same entries always give the same bytes. A change
 * rebuilds only the pages that it touches.
 */
export class RegistryPages {
  /** In the order of `start`; together they cover every hash once. */
  #leaves: Leaf[] = [{ depth: 0, start: 0, entries: [], built: null }];
  /** The pages as of the last {@link update}. */
  #published: ReadonlyMap<string, Uint8Array> = new Map();

  /** The entry of a key; undefined when there is none. */
  get(key: string): ListedEntry | undefined {
    const { entries } = this.#leafOf(keyHash(key));
    const entry = entries[placeOf(entries, key)];
    return entry?.key === key ? entry : undefined;
  }

  put(entry: ListedEntry): void {
    const leaf = this.#leafOf(entry.hash);
    const place = placeOf(leaf.entries, entry.key);
    leaf.entries.splice(place, leaf.entries[place]?.key === entry.key ? 1 : 0, entry);
    leaf.built = null;
    this.#split(leaf);
  }

  delete(key: string): void {
    const leaf = this.#leafOf(keyHash(key));
    const place = placeOf(leaf.entries, key);
    if (leaf.entries[place]?.key !== key) return;
    leaf.entries.splice(place, 1);
    leaf.built = null;
    this.#merge(leaf);
  }

  /** The entries of all pages; pages in the order of their hashes. */
  *entries(): Generator<ListedEntry> {
    for (const { entries } of this.#leaves) yield* entries;
  }

  /** All pages, keys and values in `culvert_registry`, as of the last {@link update}. */
  get published(): ReadonlyMap<string, Uint8Array> {
    return this.#published;
  }

  /** Builds the pages that changed, and a root with this sequence. Errors: `PAYLOAD_TOO_LARGE`. */
  update(sequence: number): PagesUpdate {
    const built = this.#leaves.map((leaf) => (leaf.built ??= build(leaf)));
    const before = this.#published;
    this.#published = new Map(built.map(({ listed, bytes }) => [listed.key, bytes]));
    return {
      root: { sequence, pages: built.map(({ listed }) => listed) },
      changed: new Map([...this.#published].filter(([key, bytes]) => before.get(key) !== bytes)),
      gone: [...before.keys()].filter((key) => !this.#published.has(key)),
    };
  }

  #leafOf(hash: number): Leaf {
    return this.#leaves[this.#positionOf(hash)] as Leaf;
  }

  #positionOf(hash: number): number {
    let [low, high] = [0, this.#leaves.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#leaves[middle]?.start ?? 0) <= hash) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #split(leaf: Leaf): void {
    if (leaf.entries.length <= maxPageKeys || leaf.depth === maxLeafDepth) return;
    const depth = leaf.depth + 1;
    const middle = leaf.start + sizeOf(depth);
    const halves = [leaf.start, middle].map((start): Leaf => ({ depth, start, entries: [], built: null }));
    for (const entry of leaf.entries) halves[entry.hash < middle ? 0 : 1]?.entries.push(entry);
    this.#leaves.splice(this.#positionOf(leaf.start), 1, ...halves);
    for (const half of halves) this.#split(half);
  }

  #merge(leaf: Leaf): void {
    if (leaf.depth === 0) return;
    const size = sizeOf(leaf.depth);
    const position = this.#positionOf(leaf.start);
    const isLow = (leaf.start / size) % 2 === 0;
    const first = isLow ? position : position - 1;
    const [low, high] = [this.#leaves[first], this.#leaves[first + 1]];
    // A half that was split further has more keys than fit into one page.
    if (low?.depth !== leaf.depth || high?.depth !== leaf.depth) return;
    if (low.entries.length + high.entries.length > maxPageKeys) return;
    const entries = [...low.entries, ...high.entries].sort((a, b) => (a.key < b.key ? -1 : 1));
    const whole: Leaf = { depth: leaf.depth - 1, start: low.start, entries, built: null };
    this.#leaves.splice(first, 2, whole);
    this.#merge(whole);
  }
}

function build({ depth, start, entries }: Leaf): Built {
  const key = pageKeyOf({ depth, start });
  const bytes = encodeRegistryPage(entries);
  return { listed: { depth, start, key, digest: pageDigest(bytes) }, bytes };
}

/** Where a key is in entries sorted by key, or where it belongs. */
function placeOf(entries: readonly ListedEntry[], key: string): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle]?.key ?? '') < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sizeOf(depth: number): number {
  return 2 ** (32 - depth);
}
