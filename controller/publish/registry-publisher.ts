import type { Bucket } from '../../shared/bus/bucket.js';
import { openRegistryList, registryListKey, type RegistryList } from '../../shared/wire/registry-list.js';
import { BucketMirror } from './bucket-mirror.js';
import type { Release } from './release.js';

/**
 * Brings `culvert_registry` to a release: the entries first, then the list that says which of them there are, because
 * agents that have the list wait for all that it names.
 */
export class RegistryPublisher {
  readonly #entries: BucketMirror;
  /** What the bucket holds; null: none that this controller signed. */
  #list: RegistryList | null;

  private constructor(init: { entries: BucketMirror; list: RegistryList | null }) {
    this.#entries = init.entries;
    this.#list = init.list;
  }

  /** Errors as in `Bus`. */
  static async open(bucket: Bucket, publicKeyPem: string): Promise<RegistryPublisher> {
    const entries = await BucketMirror.list(bucket, (key) => key !== registryListKey);
    const stored = await bucket.get(registryListKey);
    return new RegistryPublisher({ entries, list: stored === undefined ? null : tryOpen(stored.value, publicKeyPem) });
  }

  /** Writes nothing when nothing in the registry changes. Errors as in `Bus`, and `PAYLOAD_TOO_LARGE`. */
  async publish(release: Release): Promise<void> {
    const { registry, registryList } = release;
    if (this.#list !== null && isSameList(this.#list, registryList) && this.#entries.holds(registry)) return;
    await this.#entries.converge(registry);
    await this.#entries.bucket.put(registryListKey, release.sealRegistryList());
    this.#list = registryList;
  }
}

/** A later list with the same entries says nothing new. */
function isSameList(present: RegistryList, wanted: RegistryList): boolean {
  if (present.sequence > wanted.sequence || present.entries.size !== wanted.entries.size) return false;
  return [...wanted.entries].every(([key, sequence]) => present.entries.get(key) === sequence);
}

function tryOpen(bytes: Uint8Array, publicKeyPem: string): RegistryList | null {
  try {
    return openRegistryList({ bytes, publicKeysPem: [publicKeyPem] });
  } catch {
    return null;
  }
}
