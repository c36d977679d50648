import type { RandomChoices } from '../support/mesh/random-choices.js';

/** Mutated inputs have at most this many bytes, unless a seed is longer. */
const longestInput = 65_536;
const odd = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x20, 0x22, 0x2f, 0x3a] as const;

/** One to eight changes of an input. `other` is another input, of which a part may be taken. */
export function mutate(
  random: RandomChoices,
  { input, other, words }: { readonly input: Buffer; readonly other: Buffer; readonly words: readonly string[] },
): Buffer {
  let bytes = input;
  for (let left = 1 + upTo(random, 8); left > 0; left--) {
    bytes = changed(random, { bytes, other, words });
    if (bytes.length > longestInput && bytes.length > input.length) bytes = bytes.subarray(0, longestInput);
  }
  return bytes;
}

type Material = { readonly bytes: Buffer; readonly other: Buffer; readonly words: readonly string[] };

function changed(random: RandomChoices, { bytes, other, words }: Material): Buffer {
  const at = upTo(random, bytes.length + 1);
  const length = Math.min(lengthOf(random), bytes.length - at);
  const part = bytes.subarray(at, at + length);
  switch (upTo(random, 9)) {
    case 0:
      return splice(bytes, at, length, Buffer.alloc(0));
    case 1:
      return splice(bytes, at, 1, Buffer.of(random.pick(odd)));
    case 2:
      return splice(bytes, at, 1, Buffer.of(upTo(random, 256)));
    case 3:
      return splice(bytes, at, 1, Buffer.of((bytes[at] ?? 0) ^ (1 << upTo(random, 8))));
    case 4:
      return splice(bytes, at, 0, repeated(part, 1 + upTo(random, random.isLikely(0.05) ? 2000 : 4)));
    case 5: {
      const from = upTo(random, other.length + 1);
      return splice(bytes, at, random.isLikely(0.5) ? length : 0, other.subarray(from, from + lengthOf(random)));
    }
    case 6:
      return splice(bytes, at, random.isLikely(0.3) ? length : 0, wordOf(random, words));
    case 7:
      return bytes.subarray(0, at);
    default:
      return withNumber(random, bytes, at);
  }
}

/** An integer in place of some bytes, in network byte order, or of digits, in digits. */
function withNumber(random: RandomChoices, bytes: Buffer, at: number): Buffer {
  const text = bytes.toString('latin1');
  const digits = /\d+/g;
  digits.lastIndex = at;
  const found = random.isLikely(0.5) ? digits.exec(text) : null;
  if (found !== null) {
    const number = random.pick(['0', '-1', '65536', '4294967296', '1e309', '00', '9007199254740993', '.5'] as const);
    return splice(bytes, found.index, found[0].length, Buffer.from(number));
  }
  const size = random.pick([1, 2, 3, 4] as const);
  const most = 2 ** (8 * size) - 1;
  const value = random.pick([0, 1, most, Math.floor(most / 2), Math.floor(most / 2) + 1, upTo(random, 256)] as const);
  const number = Buffer.alloc(size);
  number.writeUIntBE(Math.min(value, most), 0, size);
  return splice(bytes, at, size, number);
}

function wordOf(random: RandomChoices, words: readonly string[]): Buffer {
  return Buffer.from(words[upTo(random, words.length)] ?? '', 'latin1');
}

function repeated(part: Buffer, times: number): Buffer {
  const fitting = Math.min(times, Math.ceil(longestInput / Math.max(1, part.length)));
  return Buffer.concat(Array.from({ length: fitting }, () => part));
}

function splice(bytes: Buffer, at: number, length: number, put: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + length)]);
}

/** Mostly short. */
function lengthOf(random: RandomChoices): number {
  return 1 + upTo(random, random.isLikely(0.8) ? 8 : 400);
}

/** A whole number from 0 to before `end`. */
function upTo(random: RandomChoices, end: number): number {
  return Math.floor(random.next() * end);
}
