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
 * SHA-256 (base64) of the sealed bytes of one group, in the order of its keys; null when an entry is missing. Who signs it
 * vouches for all of them at once, which is a hundred times cheaper to check than a signature of each.
 */
export function groupDigest(o: {
  readonly keys: readonly string[];
  readonly sealed: ReadonlyMap<string, Uint8Array>;
}): string | null {
  const hash = createHash('sha256');
  for (const key of o.keys.toSorted()) {
    const sealed = o.sealed.get(key);
    if (sealed === undefined) return null;
    // Neither part before the bytes contains a zero byte, so it can be read in one way only.
    hash.update(`${key}\0${sealed.length}\0`).update(sealed);
  }
  return hash.digest('base64');
}

/** {@link groupDigest} of each of so many groups. */
export function groupDigests(o: {
  readonly keys: Iterable<string>;
  readonly sealed: ReadonlyMap<string, Uint8Array>;
  readonly groups: number;
}): (string | null)[] {
  return keysByGroup(o.keys, o.groups).map((keys) => groupDigest({ keys, sealed: o.sealed }));
}

export function keysByGroup(keys: Iterable<string>, groups: number): string[][] {
  const byGroup = Array.from({ length: groups }, (): string[] => []);
  for (const key of keys) byGroup[groupOf(key, groups)]?.push(key);
  return byGroup;
}

/** Those of the keys whose whole group is there, byte for byte as the digests say. */
export function provenKeys(o: {
  readonly keys: Iterable<string>;
  readonly sealed: ReadonlyMap<string, Uint8Array>;
  readonly digests: readonly string[];
}): ReadonlySet<string> {
  const groups = keysByGroup(o.keys, o.digests.length);
  const isProven = (keys: readonly string[], at: number): boolean =>
    groupDigest({ keys, sealed: o.sealed }) === o.digests[at];
  return new Set(groups.filter(isProven).flat());
}
