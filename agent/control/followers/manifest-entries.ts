import { entryDigest, groupDigest, type RegistryPage } from '../../../shared/wire/registry-page.js';

/** An entry that no longer waits for its page. Unless `isProven`, its own signature must be verified. */
export type ReleasedEntry = { readonly key: string; readonly sealed: Uint8Array; readonly isProven: boolean };

/** With at least this many missing entries, a page is verified as a group. For fewer, single signatures are faster. */
const minGroupSize = 16;

/**
 * One verified page of the registry: the entries that it lists, and which of them are missing. Missing entries wait here as
 * they arrive. When the last one is there, one digest verifies them all, at a hundredth of the cost of their signatures.
 */
export class ManifestEntries {
  readonly #page: RegistryPage;
  readonly #missing = new Set<string>();
  readonly #waiting = new Map<string, Uint8Array>();
  #isGrouped: boolean;

  /** `sequenceOf` returns the sequence of the entry that is held, or 0 if there is none. */
  constructor(init: { readonly page: RegistryPage; readonly sequenceOf: (key: string) => number }) {
    this.#page = init.page;
    for (const [key, sequence] of init.page.entries) if (init.sequenceOf(key) < sequence) this.#missing.add(key);
    this.#isGrouped = this.#missing.size >= minGroupSize;
  }

  get keys(): IterableIterator<string> {
    return this.#page.entries.keys();
  }

  names(key: string): boolean {
    return this.#page.entries.has(key);
  }

  /** Keys whose entry is not held, or is older than the page says. */
  get missing(): ReadonlySet<string> {
    return this.#missing;
  }

  /** Whether {@link offer} would keep the entry. */
  wants(key: string): boolean {
    return this.#isGrouped && this.#missing.has(key);
  }

  /** Whether these are the bytes of all listed entries at the time when the page was made. */
  isProvedBy(sealed: (key: string) => Uint8Array | undefined): boolean {
    const digest = (key: string): Uint8Array | undefined => {
      const bytes = sealed(key);
      return bytes === undefined ? undefined : entryDigest(bytes);
    };
    return groupDigest({ keys: this.keys, digest }) === this.#page.digest;
  }

  /** Takes an entry that it {@link wants}. `held` gives the bytes of the others. Returns the entries that stop waiting. */
  offer(key: string, sealed: Uint8Array, held: (key: string) => Uint8Array | undefined): ReleasedEntry[] {
    const before = this.#waiting.get(key);
    if (before !== undefined) {
      // The entry changed in the meantime, or another writer forged it. Keep both, and let the signatures decide.
      this.#waiting.delete(key);
      return [before, sealed].map((bytes) => ({ key, sealed: bytes, isProven: false }));
    }
    this.#waiting.set(key, sealed);
    if (this.#waiting.size < this.#missing.size) return [];
    const isProven = this.isProvedBy((at) => this.#waiting.get(at) ?? held(at));
    return this.#release(isProven);
  }

  /** Returns everything that still waits, unverified. From now on entries no longer wait. */
  stopWaiting(): ReleasedEntry[] {
    this.#isGrouped = false;
    return this.#release(false);
  }

  /** Notes that the entry is now held with this sequence. */
  onHeld(key: string, sequence: number): void {
    if (sequence >= (this.#page.entries.get(key) ?? 0)) this.#missing.delete(key);
  }

  #release(isProven: boolean): ReleasedEntry[] {
    const released = [...this.#waiting].map(([key, sealed]) => ({ key, sealed, isProven }));
    this.#waiting.clear();
    return released;
  }
}
