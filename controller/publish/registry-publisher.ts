import type { Bucket } from '../../shared/bus/bucket.js';
import { isPageKey } from '../../shared/wire/registry-leaf.js';
import { openRegistryRoot, registryRootKey, type RegistryRoot } from '../../shared/wire/registry-root.js';
import { BucketMirror } from './bucket-mirror.js';

type Values = ReadonlyMap<string, Uint8Array>;

/** A change of the registry. Keys and values are those of `culvert_registry`. */
export type RegistryUpdate = {
  readonly entries: Values;
  readonly goneEntries: readonly string[];
  readonly pages: Values;
  readonly gonePages: readonly string[];
  readonly root: RegistryRoot;
  readonly sealedRoot: Uint8Array;
};

/** The whole registry. */
export type RegistryContent = Pick<RegistryUpdate, 'entries' | 'pages' | 'root' | 'sealedRoot'>;

/**
 * Writes `culvert_registry`: first the entries, then the pages that list them, then the root that proves the pages, because
 * agents wait for everything that a root lists. Deletes what the root does not list only after that.
 */
export class RegistryPublisher {
  readonly #entries: BucketMirror;
  readonly #pages: BucketMirror;
  /** The root in the bucket; null when there is none that this controller signed. */
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

  /** The sequence of the root in the bucket; null when there is none that this controller signed. */
  get sequence(): number | null {
    return this.#root?.sequence ?? null;
  }

  /** Errors as in `Bus`; call {@link converge} after one. */
  async publish(update: RegistryUpdate): Promise<void> {
    await this.#entries.write(update.entries);
    await this.#pages.write(update.pages);
    await this.#putRoot(update);
    await this.#pages.remove(update.gonePages);
    await this.#entries.remove(update.goneEntries);
  }

  /** Brings the bucket to this content, writing only what differs. Errors as in `Bus`. */
  async converge(content: RegistryContent): Promise<void> {
    const { entries, pages, root } = content;
    const isRootSame = this.#root !== null && isSameRoot(this.#root, root);
    // A difference may be left over from an unfinished change. Only a new root removes it from agents again.
    if (isRootSame && this.#entries.holds(entries) && this.#pages.holds(pages)) return;
    await this.#entries.write(entries);
    await this.#pages.write(pages);
    await this.#putRoot(content);
    await this.#pages.prune(pages);
    await this.#entries.prune(entries);
  }

  async #putRoot({ root, sealedRoot }: Pick<RegistryContent, 'root' | 'sealedRoot'>): Promise<void> {
    await this.#entries.bucket.put(registryRootKey, sealedRoot);
    this.#root = root;
  }
}

/** The sequence counts too: a later root with the same pages gives agents the present sequence of the inventory. */
function isSameRoot(present: RegistryRoot, wanted: RegistryRoot): boolean {
  if (present.sequence !== wanted.sequence || present.pages.length !== wanted.pages.length) return false;
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
