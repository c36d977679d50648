import { registryKey, type RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryMessage } from '../messages.js';
import { buildRegistryImage, type RegistryChange, type RegistryImage } from '../image/registry-image.js';

/** An image is made anew when so much of it changed: a change is an object in each worker, an image is there once. */
const minChanges = 1000;
const changedShare = 1 / 4;

/**
 * The registry as the control thread gives it to the workers: an image in shared memory and what changed since. Its
 * messages are folded together, so that a worker that was replaced gets the same.
 */
export class SharedRegistry {
  readonly #entries = new Map<string, RegistryEntry>();
  /** Keys of what came or went since the image. */
  readonly #changed = new Set<string>();
  #image: RegistryImage | null = null;

  /** What to tell those that know everything up to this message. */
  absorb({ isFull, upserts, removals }: RegistryMessage): RegistryChange {
    if (isFull) this.#entries.clear();
    for (const key of removals) {
      this.#entries.delete(key);
      this.#changed.add(key);
    }
    for (const entry of upserts) {
      const key = registryKey(entry);
      this.#entries.set(key, entry);
      this.#changed.add(key);
    }
    const image = this.#image;
    if (!isFull && image !== null && this.#changed.size <= Math.max(minChanges, image.entries * changedShare)) {
      return { image: null, upserts, removals };
    }
    this.#image = buildRegistryImage([...this.#entries.values()]);
    this.#changed.clear();
    return { image: this.#image, upserts: [], removals: [] };
  }

  /** What to tell one that knows nothing; null when nothing came yet. */
  replay(): RegistryChange | null {
    if (this.#image === null) return null;
    const upserts: RegistryEntry[] = [];
    const removals: string[] = [];
    for (const key of this.#changed) {
      const entry = this.#entries.get(key);
      if (entry === undefined) removals.push(key);
      else upserts.push(entry);
    }
    return { image: this.#image, upserts, removals };
  }
}
