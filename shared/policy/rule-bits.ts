/** A set of rules by their positions in the order of evaluation, a bit each. */
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

/** The first position from `start` on and before `end` that is in all three; -1 when there is none. */
export function nextInAll(a: RuleBits, b: RuleBits, c: RuleBits, start: number, end: number): number {
  if (start >= end) return -1;
  const lastWord = (end - 1) >>> 5;
  let word = start >>> 5;
  let common = (a[word] ?? 0) & (b[word] ?? 0) & (c[word] ?? 0) & (-1 << (start & 31));
  while (common === 0) {
    if (++word > lastWord) return -1;
    common = (a[word] ?? 0) & (b[word] ?? 0) & (c[word] ?? 0);
  }
  const position = (word << 5) + 31 - Math.clz32(common & -common);
  return position < end ? position : -1;
}
