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
  #list: PublishedList | null;

  private constructor(init: { entries: BucketMirror; list: PublishedList | null }) {
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

/** Digests follow from the entries, which are compared byte for byte. */
type PublishedList = Omit<RegistryList, 'digests'>;

/** A later list with the same entries says nothing new. */
function isSameList(present: PublishedList, wanted: PublishedList): boolean {
  if (present.sequence > wanted.sequence || present.entries.size !== wanted.entries.size) return false;
  return [...wanted.entries].every(([key, sequence]) => present.entries.get(key) === sequence);
}

/** Null for a list without digests too: an older controller wrote it, and it is to be written again. */
function tryOpen(bytes: Uint8Array, publicKeyPem: string): RegistryList | null {
  try {
    const list = openRegistryList({ bytes, publicKeysPem: [publicKeyPem] });
    return list.digests.length === 0 ? null : list;
  } catch {
    return null;
  }
}
