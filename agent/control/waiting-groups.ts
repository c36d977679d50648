import { groupDigest, groupOf, keysByGroup } from '../../shared/wire/registry-digests.js';
import type { RegistryList } from '../../shared/wire/registry-list.js';

/** An entry to take; what the list did not prove has to show its own signature. */
export type ReleasedEntry = { readonly key: string; readonly sealed: Uint8Array; readonly isProven: boolean };

type Group = {
  readonly keys: readonly string[];
  /** How many of the keys are not held as the list has them. */
  readonly missing: number;
  readonly waiting: Map<string, Uint8Array>;
};

/**
 * Entries that a signed list names and that come one by one. They wait until their group is whole, and then one digest
 * proves all of them, for a hundredth of what their signatures cost to check.
 */
export class WaitingGroups {
  readonly #digests: readonly string[];
  readonly #groups: readonly Group[];
  readonly #held: (key: string) => Uint8Array | undefined;

  /** `missing`: keys that are not held as the list has them; `held`: the bytes of the others. */
  constructor(init: {
    readonly list: RegistryList;
    readonly missing: ReadonlySet<string>;
    readonly held: (key: string) => Uint8Array | undefined;
  }) {
    const { digests, entries } = init.list;
    this.#digests = digests;
    this.#held = init.held;
    this.#groups = keysByGroup(entries.keys(), digests.length).map((keys) => ({
      keys,
      missing: keys.filter((key) => init.missing.has(key)).length,
      waiting: new Map(),
    }));
  }

  /** An entry that the list names and that is missing. Returns what need not wait any more. */
  offer(key: string, sealed: Uint8Array): ReleasedEntry[] {
    const at = groupOf(key, this.#digests.length);
    const group = this.#groups[at];
    if (group === undefined) return [{ key, sealed, isProven: false }];
    const before = group.waiting.get(key);
    if (before !== undefined) {
      // It changed meanwhile, or somebody else wrote it: neither is to be lost for the other.
      group.waiting.delete(key);
      return [before, sealed].map((bytes) => ({ key, sealed: bytes, isProven: false }));
    }
    group.waiting.set(key, sealed);
    return group.waiting.size < group.missing ? [] : this.#release(group, at);
  }

  /** Everything that still waits, unproved. */
  drain(): ReleasedEntry[] {
    const released: ReleasedEntry[] = [];
    for (const { waiting } of this.#groups) {
      for (const [key, sealed] of waiting) released.push({ key, sealed, isProven: false });
      waiting.clear();
    }
    return released;
  }

  #release({ keys, waiting }: Group, at: number): ReleasedEntry[] {
    const sealed = new Map(waiting);
    for (const key of keys) {
      const held = sealed.has(key) ? undefined : this.#held(key);
      if (held !== undefined) sealed.set(key, held);
    }
    const isProven = groupDigest({ keys, sealed }) === this.#digests[at];
    const released = [...waiting].map(([key, bytes]) => ({ key, sealed: bytes, isProven }));
    waiting.clear();
    return released;
  }
}
