import type { IpAddress } from '../../../shared/address.js';
import { registryKey, type RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryMessage } from '../messages.js';
import {
  buildRegistryImage,
  type NewlyReady,
  type RegistryChange,
  type RegistryImage,
} from '../image/registry-image.js';
import { ReadyTimes } from './ready-times.js';

/**
 * The image is rebuilt after this many changes, or this share of it: a change is an object in each worker, the image
 * exists once.
 */
const minChanges = 1000;
const changedShare = 1 / 4;

/**
 * The registry as the control thread passes it to the workers: an image in shared memory and the changes since. Changes
 * are merged, so that a replacement worker receives the same state.
 */
export class SharedRegistry {
  readonly #entries = new Map<string, RegistryEntry>();
  /** Keys that were added, changed or removed since the image. */
  readonly #changed = new Set<string>();
  #unreadable: ReadonlyMap<IpAddress, string> = new Map();
  #image: RegistryImage | null = null;
  readonly #readyTimes: ReadyTimes;

  /** `nowMs`: of a clock that never goes back. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#readyTimes = new ReadyTimes({ nowMs });
  }

  /** Returns the change for workers that have everything before this message. */
  absorb({ isFull, upserts, removals, unreadable }: RegistryMessage): RegistryChange {
    // What the first registry has was ready before.
    const ready = this.#image === null ? [] : this.#readyTimes.note(this.#entries, upserts);
    if (isFull) this.#forgetAllBut(upserts);
    if (isFull || unreadable !== undefined) this.#unreadable = unreadable ?? new Map();
    for (const key of removals) {
      this.#entries.delete(key);
      this.#changed.add(key);
      this.#readyTimes.forget(key);
    }
    for (const entry of upserts) {
      const key = registryKey(entry);
      this.#entries.set(key, entry);
      this.#changed.add(key);
    }
    const image = this.#image;
    if (!isFull && image !== null && this.#changed.size <= Math.max(minChanges, image.entries * changedShare)) {
      return { image: null, upserts, removals, ...(unreadable === undefined ? {} : { unreadable }), ...named(ready) };
    }
    this.#image = buildRegistryImage([...this.#entries.values()]);
    this.#changed.clear();
    return { image: this.#image, upserts: [], removals: [], unreadable: this.#unreadable, ...named(ready) };
  }

  /** A full registry has no removals: what it does not have is gone. */
  #forgetAllBut(kept: readonly RegistryEntry[]): void {
    const keys = new Set(kept.map(registryKey));
    for (const key of this.#entries.keys()) if (!keys.has(key)) this.#readyTimes.forget(key);
    this.#entries.clear();
  }

  /** Returns the whole state for a new worker; null before the first message. */
  replay(): RegistryChange | null {
    if (this.#image === null) return null;
    const upserts: RegistryEntry[] = [];
    const removals: string[] = [];
    for (const key of this.#changed) {
      const entry = this.#entries.get(key);
      if (entry === undefined) removals.push(key);
      else upserts.push(entry);
    }
    const ready = this.#readyTimes.all();
    return { image: this.#image, upserts, removals, unreadable: this.#unreadable, ...named(ready) };
  }
}

function named(newlyReady: readonly NewlyReady[]): Pick<RegistryChange, 'newlyReady'> {
  return newlyReady.length === 0 ? {} : { newlyReady };
}
