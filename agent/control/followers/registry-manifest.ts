import { keyHash } from '../../../shared/wire/registry-leaf.js';
import { decodeRegistryPage, maxPageBytes, pageDigest } from '../../../shared/wire/registry-page.js';
import { pageOfHash, registryRootKey, type ListedPage, type RegistryRoot } from '../../../shared/wire/registry-root.js';
import { ManifestEntries } from './manifest-entries.js';

/** Of pages that no root names yet: a change of everything among a million workloads has no more. */
const maxCandidateBytes = 32 * 1024 * 1024;
/** What a page takes beside its bytes. */
const candidateOverheadBytes = 512;

type HeldPage = { readonly digest: string; readonly sealed: Uint8Array; readonly entries: ManifestEntries };
type Candidate = { readonly digest: string; readonly sealed: Uint8Array };

/** What came into force and what it replaced. */
export type ListChange = { readonly added: readonly ManifestEntries[]; readonly dropped: readonly ManifestEntries[] };

/**
 * The root of the registry and those of its pages that are here. A page counts when the root has its digest, which is
 * checked before anything of it is read; one that it does not have waits for a root that does. No page that did
 * not change is opened again.
 */
export class RegistryManifest {
  readonly #open: (sealed: Uint8Array) => RegistryRoot;
  readonly #sequenceOf: (key: string) => number;
  readonly #onRefused: (key: string, error: unknown) => void;
  #root: (RegistryRoot & { readonly sealed: Uint8Array }) | null = null;
  #pages = new Map<string, HeldPage>();
  /** By key, the one that came last; the oldest first. */
  readonly #candidates = new Map<string, Candidate>();
  #candidateBytes = 0;
  /** Root and pages that are others than when {@link takeChanged} was called last. */
  #changed = new Set<string>();
  /** Keys of candidates where another page is in force. */
  #strays = new Set<string>();

  constructor(init: {
    /** Checks the signature; throws when it is not right. */
    readonly open: (sealed: Uint8Array) => RegistryRoot;
    /** Of the entry that is held, 0 without one. */
    readonly sequenceOf: (key: string) => number;
    /** A page was refused: it is too large, or the root proves it and it is of no use. */
    readonly onRefused: (key: string, error: unknown) => void;
  }) {
    this.#open = init.open;
    this.#sequenceOf = init.sequenceOf;
    this.#onRefused = init.onRefused;
  }

  /** Of the root; null without one. */
  get sequence(): number | null {
    return this.#root?.sequence ?? null;
  }

  get hasRoot(): boolean {
    return this.#root !== null;
  }

  /** Root and pages in force, as they came. */
  *sealed(): Generator<{ readonly key: string; readonly sealed: Uint8Array }> {
    for (const [key, { sealed }] of this.#pages) yield { key, sealed };
    if (this.#root !== null) yield { key: registryRootKey, sealed: this.#root.sealed };
  }

  /** What of it is another than when this was called before; null: gone. */
  *takeChanged(): Generator<[string, Uint8Array | null]> {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const key of changed) {
      const sealed = key === registryRootKey ? this.#root?.sealed : this.#pages.get(key)?.sealed;
      yield [key, sealed ?? null];
    }
  }

  /** Keys of pages that the root names and that are not here. */
  missingPages(): string[] {
    if (this.missingPageCount === 0) return [];
    return (this.#root?.pages ?? []).filter(({ key }) => !this.#pages.has(key)).map(({ key }) => key);
  }

  get missingPageCount(): number {
    return (this.#root?.pages.length ?? 0) - this.#pages.size;
  }

  /** A page that came where the root names another: the root that has it is on its way, or somebody else wrote it. */
  get strayPage(): string | undefined {
    const [first] = this.#strays;
    return first;
  }

  /** What the page in force that the key belongs to says; undefined when it is not here. */
  entriesFor(key: string): ManifestEntries | undefined {
    if (this.#root === null) return undefined;
    return this.#pages.get(pageOfHash(this.#root, keyHash(key)).key)?.entries;
  }

  *entries(): Generator<ManifestEntries> {
    for (const { entries } of this.#pages.values()) yield entries;
  }

  /** Null: it is the one in force. Throws when it is not to be believed, or older. */
  takeRoot(sealed: Uint8Array): ListChange | null {
    if (this.#root !== null && Buffer.compare(this.#root.sealed, sealed) === 0) return null;
    const root = this.#open(sealed);
    if (this.#root !== null && root.sequence < this.#root.sequence) {
      throw new Error(`its sequence ${root.sequence} is older than ${this.#root.sequence}, which is held`);
    }
    const before = this.#pages;
    this.#root = { ...root, sealed };
    this.#changed.add(registryRootKey);
    this.#pages = new Map();
    const added: ManifestEntries[] = [];
    for (const page of root.pages) {
      const held = before.get(page.key);
      if (held?.digest === page.digest) {
        this.#pages.set(page.key, held);
        before.delete(page.key);
        continue;
      }
      const candidate = this.#candidates.get(page.key);
      if (candidate?.digest !== page.digest) continue;
      this.#dropCandidate(page.key);
      const entries = this.#accept(page, candidate);
      if (entries !== null) added.push(entries);
    }
    for (const key of before.keys()) this.#changed.add(key);
    this.#strays = new Set([...this.#candidates.keys()].filter((key) => this.#pages.has(key)));
    return { added, dropped: [...before.values()].map(({ entries }) => entries) };
  }

  /** What the page says when it comes into force by this; null: it does not, or is already. */
  takePage(key: string, sealed: Uint8Array): ManifestEntries | null {
    if (sealed.length > maxPageBytes) {
      this.#onRefused(key, new Error(`a page of ${sealed.length} bytes: ${maxPageBytes} are the most`));
      return null;
    }
    const digest = pageDigest(sealed);
    this.#dropCandidate(key);
    if (this.#pages.get(key)?.digest === digest) return null;
    const wanted = this.#pages.has(key) ? undefined : this.#root?.pages.find((page) => page.key === key);
    if (wanted?.digest === digest) return this.#accept(wanted, { digest, sealed });
    this.#keepCandidate(key, { digest, sealed });
    return null;
  }

  #accept(page: ListedPage, { digest, sealed }: Candidate): ManifestEntries | null {
    try {
      const opened = decodeRegistryPage({ bytes: sealed, leaf: page });
      const entries = new ManifestEntries({ page: opened, sequenceOf: this.#sequenceOf });
      this.#pages.set(page.key, { digest, sealed, entries });
      this.#changed.add(page.key);
      return entries;
    } catch (error) {
      this.#onRefused(page.key, error);
      return null;
    }
  }

  /** Whoever writes into NATS must not fill the memory: the oldest go, and what belongs to them comes with a later change. */
  #keepCandidate(key: string, candidate: Candidate): void {
    this.#candidates.set(key, candidate);
    if (this.#pages.has(key)) this.#strays.add(key);
    this.#candidateBytes += candidate.sealed.length + candidateOverheadBytes;
    for (const oldest of this.#candidates.keys()) {
      if (this.#candidateBytes <= maxCandidateBytes) return;
      this.#dropCandidate(oldest);
    }
  }

  #dropCandidate(key: string): void {
    const candidate = this.#candidates.get(key);
    if (candidate === undefined) return;
    this.#candidates.delete(key);
    this.#strays.delete(key);
    this.#candidateBytes -= candidate.sealed.length + candidateOverheadBytes;
  }
}
