import type { Bucket } from '../../shared/bus/bucket.js';
import { isPageKey } from '../../shared/wire/registry-leaf.js';
import { openRegistryRoot, registryRootKey, type RegistryRoot } from '../../shared/wire/registry-root.js';
import { BucketMirror } from './bucket-mirror.js';
import type { CompiledRevision } from '../release/compiled-revision.js';

/**
 * Brings `culvert_registry` to a release, and writes only what differs: the entries first, then the pages that name them,
 * then the root that proves the pages, because agents wait for all that a root names; and only then is deleted what it
 * does not name.
 */
export class RegistryPublisher {
  readonly #entries: BucketMirror;
  readonly #pages: BucketMirror;
  /** What the bucket holds; null: none that this controller signed. */
  #root: RegistryRoot | null;

  private constructor(init: { entries: BucketMirror; pages: BucketMirror; root: RegistryRoot | null }) {
    this.#entries = init.entries;
    this.#pages = init.pages;
    this.#root = init.root;
  }

  /** Errors as in `Bus`. */
  static async open(bucket: Bucket, publicKeyPem: string): Promise<RegistryPublisher> {
    const stored = await bucket.entries();
    const root = stored.find(({ key }) => key === registryRootKey);
    return new RegistryPublisher({
      entries: BucketMirror.of(bucket, stored, (key) => key !== registryRootKey && !isPageKey(key)),
      pages: BucketMirror.of(bucket, stored, isPageKey),
      root: root === undefined ? null : tryOpen(root.value, publicKeyPem),
    });
  }

  /** Writes nothing when nothing in the registry changes. Errors as in `Bus`, and `PAYLOAD_TOO_LARGE`. */
  async publish(release: CompiledRevision): Promise<void> {
    const { registry } = release;
    const { root, pages } = release.registryTree();
    const isRootSame = this.#root !== null && isSameRoot(this.#root, root);
    // What differs may be left of a revision that was not finished: only a later root takes it out of agents again.
    if (isRootSame && this.#entries.holds(registry) && this.#pages.holds(pages)) return;
    await this.#entries.write(registry);
    await this.#pages.write(pages);
    await this.#entries.bucket.put(registryRootKey, release.sealRegistryRoot());
    this.#root = root;
    await this.#pages.prune(pages);
    await this.#entries.prune(registry);
  }
}

/** A later root with the same pages says nothing new. */
function isSameRoot(present: RegistryRoot, wanted: RegistryRoot): boolean {
  if (present.sequence > wanted.sequence || present.pages.length !== wanted.pages.length) return false;
  return wanted.pages.every(
    ({ key, digest }, at) => present.pages[at]?.key === key && present.pages[at].digest === digest,
  );
}

function tryOpen(bytes: Uint8Array, publicKeyPem: string): RegistryRoot | null {
  try {
    return openRegistryRoot({ bytes, publicKeysPem: [publicKeyPem] });
  } catch {
    return null;
  }
}
