/**
 * Keys of the registry are spread over pages by a hash. A page has the keys whose hash begins with its `depth` bits; one
 * that would get too many is split in two by the next bit. So the pages follow from the keys alone, and a key that comes
 * or goes concerns only the page that it belongs to, also when that one splits or melts.
 */
export type RegistryLeaf = {
  /** How many bits all hashes in it share, 0 to {@link maxLeafDepth}. */
  readonly depth: number;
  /** The least hash that belongs to it; the others follow. */
  readonly start: number;
};

/** A million pages. Keys that were made up to have the same hash share one page, which then may be large. */
export const maxLeafDepth = 20;
/** Hashes are whole numbers below this. */
export const hashSpace = 2 ** 32;

/** The key of its page in `culvert_registry`. */
export function pageKeyOf({ depth, start }: RegistryLeaf): string {
  return `${pageKeyPrefix}.${depth}.${start / 2 ** (32 - depth)}`;
}

/** What keys of pages begin with, before a dot. */
export const pageKeyPrefix = 'list';

export function isPageKey(key: string): boolean {
  return key.startsWith(`${pageKeyPrefix}.`);
}

export function leafHas({ depth, start }: RegistryLeaf, hash: number): boolean {
  return hash >= start && hash < start + 2 ** (32 - depth);
}

/** FNV-1a over the UTF-16 units of the key, then the finalizer of MurmurHash3, so that all of its first bits count. */
export function keyHash(key: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
