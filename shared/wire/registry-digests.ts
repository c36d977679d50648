import { createHash } from 'node:crypto';

/** Entries of a group: few enough to check one by one when something in it is not as the list says. */
const entriesPerGroup = 256;

/** How many groups a registry of so many entries is listed in. */
export function groupsFor(entries: number): number {
  return Math.max(1, Math.ceil(entries / entriesPerGroup));
}

/** FNV-1a, 32 bits, over the UTF-16 units of the key. */
export function groupOf(key: string, groups: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return (hash >>> 0) % groups;
}

/**
 * SHA-256 (base64) of the sealed bytes of each group of keys, in the order of the keys; null where an entry is missing.
 * Who signs these vouches for all entries at once, which is a hundred times cheaper to check than a signature of each.
 */
export function groupDigests(o: {
  readonly keys: Iterable<string>;
  readonly sealed: ReadonlyMap<string, Uint8Array>;
  readonly groups: number;
}): (string | null)[] {
  const hashes = Array.from({ length: o.groups }, () => createHash('sha256'));
  const incomplete = new Set<number>();
  for (const key of [...o.keys].sort()) {
    const group = groupOf(key, o.groups);
    const sealed = o.sealed.get(key);
    // Neither part before the bytes contains a zero byte, so it can be read in one way only.
    if (sealed === undefined) incomplete.add(group);
    else hashes[group]?.update(`${key}\0${sealed.length}\0`).update(sealed);
  }
  return hashes.map((hash, group) => (incomplete.has(group) ? null : hash.digest('base64')));
}

/** Those of the keys whose whole group is there, byte for byte as the digests say. */
export function provenKeys(o: {
  readonly keys: Iterable<string>;
  readonly sealed: ReadonlyMap<string, Uint8Array>;
  readonly digests: readonly string[];
}): ReadonlySet<string> {
  const groups = o.digests.length;
  if (groups === 0) return new Set();
  const keys = [...o.keys];
  const found = groupDigests({ keys, sealed: o.sealed, groups });
  const isProven = found.map((digest, group) => digest === o.digests[group]);
  return new Set(keys.filter((key) => isProven[groupOf(key, groups)]));
}
