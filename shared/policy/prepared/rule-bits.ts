/** A set of rules, one bit per position in evaluation order. */
export type RuleBits = Int32Array;

export function emptyBits(rules: number): RuleBits {
  return new Int32Array((rules + 31) >>> 5);
}

export function setBit(bits: RuleBits, position: number): void {
  bits[position >>> 5] = (bits[position >>> 5] ?? 0) | (1 << (position & 31));
}

export function addBits(bits: RuleBits, more: RuleBits): void {
  for (let word = 0; word < bits.length; word++) bits[word] = (bits[word] ?? 0) | (more[word] ?? 0);
}

/** The indexes of the non-empty words of a set, ascending. Most sources are in few rules, so few words are read. */
export function filledWords(bits: RuleBits): Int32Array {
  let count = 0;
  for (let word = 0; word < bits.length; word++) if (bits[word] !== 0) count++;
  const words = new Int32Array(count);
  for (let word = 0, at = 0; word < bits.length; word++) if (bits[word] !== 0) words[at++] = word;
  return words;
}

/**
 * Calls `decide` in ascending order with each position from `start` to just before `end` that is in all three sets,
 * until it returns something other than undefined, and returns that. `words`: {@link filledWords} of `a`.
 */
export function findInAll<T>(
  sets: { readonly words: Int32Array; readonly a: RuleBits; readonly b: RuleBits; readonly c: RuleBits },
  start: number,
  end: number,
  decide: (position: number) => T | undefined,
): T | undefined {
  if (start >= end) return undefined;
  const { words, a, b, c } = sets;
  const firstWord = start >>> 5;
  const lastWord = (end - 1) >>> 5;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? 0;
    if (word < firstWord) continue;
    if (word > lastWord) return undefined;
    let common = (a[word] ?? 0) & (b[word] ?? 0) & (c[word] ?? 0);
    if (word === firstWord) common &= -1 << (start & 31);
    for (; common !== 0; common &= common - 1) {
      const position = (word << 5) + 31 - Math.clz32(common & -common);
      if (position >= end) return undefined;
      const found = decide(position);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}
