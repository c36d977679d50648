import { documentsSource } from './inventory-source.js';
import type { AppliedChange } from './merged-registry.js';

/**
 * What changed in the inventory, on disk or not yet, since a reader began that keeps no change away. The inventory notes
 * changes; the reader disposes of it.
 */
export class InventoryLook implements Disposable {
  readonly #published = new Set<string>();
  readonly #stop: () => void;
  #hasDocuments = false;

  /** `stop`: nothing is to be noted any more. */
  constructor(init: { readonly stop: () => void }) {
    this.#stop = init.stop;
  }

  /** Registry keys of entries that are published otherwise than before. */
  get published(): ReadonlySet<string> {
    return this.#published;
  }

  /** People changed workloads or services. */
  get hasDocuments(): boolean {
    return this.#hasDocuments;
  }

  note(source: string | null, { published }: Pick<AppliedChange, 'published'>): void {
    for (const key of published.keys()) this.#published.add(key);
    if (source === documentsSource && published.size > 0) this.#hasDocuments = true;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}
