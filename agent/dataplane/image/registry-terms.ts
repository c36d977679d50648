/**
 * The terms by which registry entries are found, as 32 bits (FNV-1a over UTF-16 units, mixed as in MurmurHash3).
 * Different things may have the same term, so a lookup must check that it found the right entry.
 */
export function keyTerm(key: string): number {
  return finish(mix(1, key));
}

export function addressTerm(ip: string): number {
  return finish(mix(2, ip));
}

export function vipTerm(ip: string): number {
  return finish(mix(3, ip));
}

export function labelTerm(namespace: string, label: string, value: string): number {
  return finish(mix(mix(mix(4, namespace), label), value));
}

function mix(seed: number, text: string): number {
  let hash = Math.imul(seed ^ 0x811c9dc5, 0x01000193);
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash;
}

function finish(hash: number): number {
  let mixed = hash ^ (hash >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
