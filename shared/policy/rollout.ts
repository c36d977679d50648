/**
 * Whether a partly rolled out rule is enforced for a source. The answer for one source and rule is the same on every
 * agent, a higher percentage keeps every source that was included before, and two rules divide the sources differently.
 * `source`: the proved identity, else the address.
 */
export function isRolledOut(source: string, rule: string, percentage: number): boolean {
  if (percentage >= 100) return true;
  return percentage > 0 && rolloutBucket(source, rule) < percentage;
}

/**
 * A number from 0 to 99, evenly distributed: FNV-1a over both names, then the last step of MurmurHash3 so that every
 * bit counts.
 */
export function rolloutBucket(source: string, rule: string): number {
  let hash = 0x811c9dc5;
  const text = `${source}\n${rule}`;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % 100;
}
