/**
 * A hash spreads the keys of the registry over pages, the leaves of a binary tree. All hashes of a page share their first
 * `depth` bits. A page that would get too many keys is split in two by the next bit. So the keys alone decide the pages,
 * and adding or removing a key changes only its own page, even when that page is split or merged.
 */
export type RegistryLeaf = {
  /** Number of leading bits that all its hashes share, 0 to {@link maxLeafDepth}. */
  readonly depth: number;
  /** The lowest of its hashes; they are contiguous. */
  readonly start: number;
};

/** A million pages. Keys crafted to collide share one page, which may then be large. */
export const maxLeafDepth = 20;
/** Hashes are integers below this. */
export const hashSpace = 2 ** 32;

/** The key of the leaf's page in `culvert_registry`. */
export function pageKeyOf({ depth, start }: RegistryLeaf): string {
  return `${pageKeyPrefix}.${depth}.${start / 2 ** (32 - depth)}`;
}

/** Keys of pages begin with this, followed by a dot. */
export const pageKeyPrefix = 'list';

export function isPageKey(key: string): boolean {
  return key.startsWith(`${pageKeyPrefix}.`);
}

export function leafHas({ depth, start }: RegistryLeaf, hash: number): boolean {
  return hash >= start && hash < start + 2 ** (32 - depth);
}

/** FNV-1a over the UTF-16 units of the key, then the finalizer of MurmurHash3, so that its leading bits are well mixed. */
export function keyHash(key: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
