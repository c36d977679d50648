import { entryDigest, groupDigest, type RegistryPage } from '../../../shared/wire/registry-page.js';

/** An entry to take; what its page did not prove has to show its own signature. */
export type ReleasedEntry = { readonly key: string; readonly sealed: Uint8Array; readonly isProven: boolean };

/** So many missing entries of a page are proved together; fewer are sooner checked by their signatures. */
const minGrouped = 16;

/**
 * What one proved page of the registry names, and what of it is missing. Missing entries that come one by one wait until
 * all are there, and then one digest proves them, for a hundredth of what their signatures cost to check.
 */
export class ManifestEntries {
  readonly #page: RegistryPage;
  readonly #missing = new Set<string>();
  readonly #waiting = new Map<string, Uint8Array>();
  #isGrouped: boolean;

  /** `sequenceOf`: of the entry that is held, 0 without one. */
  constructor(init: { readonly page: RegistryPage; readonly sequenceOf: (key: string) => number }) {
    this.#page = init.page;
    for (const [key, sequence] of init.page.entries) if (init.sequenceOf(key) < sequence) this.#missing.add(key);
    this.#isGrouped = this.#missing.size >= minGrouped;
  }

  get keys(): IterableIterator<string> {
    return this.#page.entries.keys();
  }

  names(key: string): boolean {
    return this.#page.entries.has(key);
  }

  /** Keys that are not held, or only in an older version. */
  get missing(): ReadonlySet<string> {
    return this.#missing;
  }

  /** Whether {@link offer} would keep the entry. */
  wants(key: string): boolean {
    return this.#isGrouped && this.#missing.has(key);
  }

  /** Whether these bytes are all that the page names, as it was when it was made. */
  isProvedBy(sealed: (key: string) => Uint8Array | undefined): boolean {
    const digest = (key: string): Uint8Array | undefined => {
      const bytes = sealed(key);
      return bytes === undefined ? undefined : entryDigest(bytes);
    };
    return groupDigest({ keys: this.keys, digest }) === this.#page.digest;
  }

  /** An entry that it {@link wants}. `held`: the bytes of the others. Returns what need not wait any more. */
  offer(key: string, sealed: Uint8Array, held: (key: string) => Uint8Array | undefined): ReleasedEntry[] {
    const before = this.#waiting.get(key);
    if (before !== undefined) {
      // It changed meanwhile, or somebody else wrote it: neither is to be lost for the other.
      this.#waiting.delete(key);
      return [before, sealed].map((bytes) => ({ key, sealed: bytes, isProven: false }));
    }
    this.#waiting.set(key, sealed);
    if (this.#waiting.size < this.#missing.size) return [];
    const isProven = this.isProvedBy((at) => this.#waiting.get(at) ?? held(at));
    return this.#release(isProven);
  }

  /** Everything that still waits, unproved; nothing waits any more from now on. */
  stopWaiting(): ReleasedEntry[] {
    this.#isGrouped = false;
    return this.#release(false);
  }

  /** The entry is held now, with this sequence. */
  onHeld(key: string, sequence: number): void {
    if (sequence >= (this.#page.entries.get(key) ?? 0)) this.#missing.delete(key);
  }

  #release(isProven: boolean): ReleasedEntry[] {
    const released = [...this.#waiting].map(([key, sealed]) => ({ key, sealed, isProven }));
    this.#waiting.clear();
    return released;
  }
}
