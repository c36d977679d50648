import type { IpAddress } from '../../../shared/address.js';
import type { EntryClaims, UnreadableEntryError, UnreadableWorkload } from '../../../shared/wire/unreadable-entry.js';

type Unreadable = { readonly sequence: number; readonly claims: EntryClaims; readonly sealed: Uint8Array };

/** Before the key of such an entry on disk: the entry before it, which can be read, is there under the key itself. */
const storedPrefix = 'unreadable.';

/**
 * Signed entries of a newer controller that this agent cannot read as a whole. Their addresses belong to the mesh, but
 * nothing says how to reach them and which rules apply, so workers refuse connections to and from them.
 */
export class UnreadableEntries {
  readonly #entries = new Map<string, Unreadable>();
  /** Keys that changed since {@link takeUnsaved}. */
  #unsaved = new Set<string>();
  #hasChanged = false;

  get size(): number {
    return this.#entries.size;
  }

  /** True when something changed since {@link takeAddresses}. */
  get hasChanged(): boolean {
    return this.#hasChanged;
  }

  /** Undefined: there is none at this key. */
  sequenceOf(key: string): number | undefined {
    return this.#entries.get(key)?.sequence;
  }

  /** Returns false when it is not newer than what is here. */
  take(key: string, sealed: Uint8Array, { sequence, claims }: UnreadableEntryError): boolean {
    if (sequence <= (this.#entries.get(key)?.sequence ?? 0)) return false;
    this.#entries.set(key, { sequence, claims, sealed });
    this.#note(key);
    return true;
  }

  drop(key: string): void {
    if (this.#entries.delete(key)) this.#note(key);
  }

  /** This agent is newer than the one that stored the entry, and reads it: it is no longer to be stored here. */
  forgetStored(key: string): void {
    this.#unsaved.add(key);
  }

  /** `isGone` says whether the signed list no longer has an entry. */
  dropWhere(isGone: (key: string, sequence: number) => boolean): void {
    for (const [key, { sequence }] of this.#entries) if (isGone(key, sequence)) this.drop(key);
  }

  /**
   * The registry key of each address. Where an earlier version of the entry can be read (`readable`), that one stays in force
   * for the addresses that it has.
   */
  takeAddresses(readable: (key: string) => readonly IpAddress[]): ReadonlyMap<IpAddress, string> {
    this.#hasChanged = false;
    const addresses = new Map<IpAddress, string>();
    for (const [key, entry] of this.#entries) {
      const known = readable(key);
      for (const address of entry.claims.addresses) if (!known.includes(address)) addresses.set(address, key);
    }
    return addresses;
  }

  /** Those whose traffic an agent has to capture. */
  *workloads(): Generator<UnreadableWorkload> {
    for (const { claims } of this.#entries.values()) if (claims.toCapture !== null) yield claims.toCapture;
  }

  /** As {@link keyOfStored} finds them again. */
  *stored(): Generator<{ readonly key: string; readonly sealed: Uint8Array }> {
    for (const [key, { sealed }] of this.#entries) yield { key: storedPrefix + key, sealed };
  }

  /** What changed since the last call; null for an entry that is gone. */
  *takeUnsaved(): Generator<[string, Uint8Array | null]> {
    const unsaved = this.#unsaved;
    this.#unsaved = new Set();
    for (const key of unsaved) yield [storedPrefix + key, this.#entries.get(key)?.sealed ?? null];
  }

  #note(key: string): void {
    this.#unsaved.add(key);
    this.#hasChanged = true;
  }
}

/** The registry key of an entry that was stored as unreadable; null: it was not. The agent may be newer by now. */
export function keyOfStored(key: string): string | null {
  return key.startsWith(storedPrefix) ? key.slice(storedPrefix.length) : null;
}
