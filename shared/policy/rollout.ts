/**
 * Whether a rule that is rolled out to some sources is enforced for this one. The same source and rule always give the
 * same answer, on every agent; a higher percentage keeps everybody who was in before; and two rules divide the sources
 * differently. `source` is the proved identity, or the address of who proved none.
 */
export function isRolledOut(source: string, rule: string, percentage: number): boolean {
  if (percentage >= 100) return true;
  return percentage > 0 && rolloutBucket(source, rule) < percentage;
}

/** 0 to 99, evenly: FNV-1a over both names, and the last step of MurmurHash3 so that every bit counts. */
export function rolloutBucket(source: string, rule: string): number {
  let hash = 0x811c9dc5;
  const text = `${source}\n${rule}`;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % 100;
}
