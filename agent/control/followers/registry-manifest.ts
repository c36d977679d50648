import { keyHash } from '../../../shared/wire/registry-leaf.js';
import { decodeRegistryPage, maxPageBytes, pageDigest } from '../../../shared/wire/registry-page.js';
import { pageOfHash, registryRootKey, type ListedPage, type RegistryRoot } from '../../../shared/wire/registry-root.js';
import { ManifestEntries } from './manifest-entries.js';
import { restoredBackup } from './registry-refusals.js';

/** Limit for pages that no root lists yet. A change of all of a million workloads stays below it. */
const maxCandidateBytes = 32 * 1024 * 1024;
/** Memory that a page takes in addition to its bytes. */
const candidateOverheadBytes = 512;

type HeldPage = { readonly digest: string; readonly sealed: Uint8Array; readonly entries: ManifestEntries };
type Candidate = { readonly digest: string; readonly sealed: Uint8Array };

/** Pages that came into force, and pages that they replaced. */
export type ManifestChange = {
  readonly added: readonly ManifestEntries[];
  readonly dropped: readonly DroppedPage[];
};
/** A page that is no longer in force, and the one in its place: the page of the same keys, if that has arrived. */
export type DroppedPage = { readonly entries: ManifestEntries; readonly successor: ManifestEntries | undefined };

/**
 * The root of the registry, and those of its pages that have arrived. A page is in force when the root has its digest; the
 * digest is checked before the page is parsed. Any other page waits as a candidate for a root that lists it. A page that
 * did not change is not parsed again.
 */
export class RegistryManifest {
  readonly #open: (sealed: Uint8Array) => RegistryRoot;
  readonly #sequenceOf: (key: string) => number;
  readonly #onRefused: (key: string, error: unknown) => void;
  #root: (RegistryRoot & { readonly sealed: Uint8Array }) | null = null;
  #pages = new Map<string, HeldPage>();
  /** The latest candidate for each key, oldest first. */
  readonly #candidates = new Map<string, Candidate>();
  #candidateBytes = 0;
  /** Keys of the root and of pages that changed since {@link takeChanged}. */
  #changed = new Set<string>();
  /** Keys of candidates that have another page in force. */
  #strays = new Set<string>();

  constructor(init: {
    /** Verifies the signature, and throws when it is wrong. */
    readonly open: (sealed: Uint8Array) => RegistryRoot;
    /** The sequence of the entry that is held, or 0 if there is none. */
    readonly sequenceOf: (key: string) => number;
    /** A page was refused: it is too large, or the root lists it and it cannot be parsed. */
    readonly onRefused: (key: string, error: unknown) => void;
  }) {
    this.#open = init.open;
    this.#sequenceOf = init.sequenceOf;
    this.#onRefused = init.onRefused;
  }

  /** The root's sequence; null when there is no root. */
  get sequence(): number | null {
    return this.#root?.sequence ?? null;
  }

  get hasRoot(): boolean {
    return this.#root !== null;
  }

  /** Root and pages in force, as they were received. */
  *sealed(): Generator<{ readonly key: string; readonly sealed: Uint8Array }> {
    for (const [key, { sealed }] of this.#pages) yield { key, sealed };
    if (this.#root !== null) yield { key: registryRootKey, sealed: this.#root.sealed };
  }

  /** What changed since the last call; null for a page that is gone. */
  *takeChanged(): Generator<[string, Uint8Array | null]> {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const key of changed) {
      const sealed = key === registryRootKey ? this.#root?.sealed : this.#pages.get(key)?.sealed;
      yield [key, sealed ?? null];
    }
  }

  /** Keys of pages that the root lists and that have not arrived. */
  missingPages(): string[] {
    if (this.missingPageCount === 0) return [];
    return (this.#root?.pages ?? []).filter(({ key }) => !this.#pages.has(key)).map(({ key }) => key);
  }

  get missingPageCount(): number {
    return (this.#root?.pages.length ?? 0) - this.#pages.size;
  }

  /** A page that arrived where the root lists another: its root is still on the way, or another client wrote it. */
  get strayPage(): string | undefined {
    const [first] = this.#strays;
    return first;
  }

  /** The page in force that the key belongs to; undefined when it has not arrived. */
  entriesFor(key: string): ManifestEntries | undefined {
    if (this.#root === null) return undefined;
    return this.#pages.get(pageOfHash(this.#root, keyHash(key)).key)?.entries;
  }

  *entries(): Generator<ManifestEntries> {
    for (const { entries } of this.#pages.values()) yield entries;
  }

  /** Returns null when this root is in force already. Throws when its signature is wrong, or it is older. */
  takeRoot(sealed: Uint8Array): ManifestChange | null {
    if (this.#root !== null && Buffer.compare(this.#root.sealed, sealed) === 0) return null;
    const root = this.#open(sealed);
    if (this.#root !== null && root.sequence < this.#root.sequence) {
      const { sequence } = this.#root;
      throw new Error(
        `its sequence ${root.sequence} is older than ${sequence}, which this agent has: ${restoredBackup}`,
      );
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
    return {
      added,
      dropped: [...before].map(([key, { entries }]) => ({ entries, successor: this.#pages.get(key)?.entries })),
    };
  }

  /** Returns the page when this call puts it in force; null when it waits as a candidate, or is in force already. */
  takePage(key: string, sealed: Uint8Array): ManifestEntries | null {
    if (sealed.length > maxPageBytes) {
      this.#onRefused(key, new Error(`the page has ${sealed.length} bytes; at most ${maxPageBytes} are allowed`));
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

  /**
   * A client that writes to NATS must not fill this agent's memory: the oldest candidates are dropped, and a later
   * change brings them again.
   */
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
