import { BoundedCache } from '../../../shared/policy/prepared/bounded-cache.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { wordsPerPosting, wordsPerSlot, type RegistryImage } from './registry-image.js';

/** Number of entries that stay decoded, about 1 KiB each: those of the peers that a worker actually talks to. */
const maxDecoded = 4096;

/**
 * One worker's view of a {@link RegistryImage}. Entries are decoded when they are found; an entry that is found often
 * is the same object each time.
 */
export class ImageReader {
  readonly #text: Buffer;
  readonly #words: Int32Array;
  readonly #entries: number;
  readonly #slots: number;
  readonly #decoded = new BoundedCache<number, RegistryEntry>({ maxEntries: maxDecoded });

  constructor({ entries, slots, text, words }: RegistryImage) {
    this.#text = Buffer.from(text);
    this.#words = new Int32Array(words);
    this.#entries = entries;
    this.#slots = slots;
  }

  get size(): number {
    return this.#entries;
  }

  /** The latest posting of a term, to continue with {@link next}; 0: the term has no posting. */
  first(term: number): number {
    const slot = this.#slotOf(term);
    return slot < 0 ? 0 : this.#word(slot + 1);
  }

  /** The previous posting; 0: this was the last. */
  next(posting: number): number {
    return this.#word(this.#postingAt(posting) + 1);
  }

  /** The number of a posting's entry, for {@link entry}. */
  numberAt(posting: number): number {
    return this.#word(this.#postingAt(posting));
  }

  /** How many entries a term has. */
  count(term: number): number {
    const slot = this.#slotOf(term);
    return slot < 0 ? 0 : this.#word(slot + 2);
  }

  entry(number: number): RegistryEntry {
    const known = this.#decoded.get(number);
    if (known !== undefined) return known;
    const start = number === 0 ? 0 : this.#word(number - 1);
    const entry = JSON.parse(this.#text.toString('utf8', start, this.#word(number))) as RegistryEntry;
    this.#decoded.set(number, entry);
    return entry;
  }

  /** Where the slot of a term begins; -1 if it has none. */
  #slotOf(term: number): number {
    const mask = this.#slots - 1;
    for (let at = term & mask; ; at = (at + 1) & mask) {
      const slot = this.#entries + at * wordsPerSlot;
      if (this.#word(slot + 1) === 0) return -1;
      if (this.#word(slot) === term) return slot;
    }
  }

  #postingAt(posting: number): number {
    return this.#entries + this.#slots * wordsPerSlot + (posting - 1) * wordsPerPosting;
  }

  #word(at: number): number {
    return this.#words[at] ?? 0;
  }
}
