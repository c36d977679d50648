import type { Snapshot } from '../snapshot.js';

/** The label with its own name that Kubernetes gives every namespace (KEP-2161). */
export const namespaceNameLabel = 'kubernetes.io/metadata.name';

/** Labels of namespaces, also of those that have no Namespace document. */
export class NamespaceLabels {
  readonly #written: ReadonlyMap<string, Readonly<Record<string, string>>>;

  constructor({ namespaces }: Pick<Snapshot, 'namespaces'>) {
    this.#written = new Map(Object.entries(namespaces));
  }

  of(namespace: string): Readonly<Record<string, string>> {
    return { ...this.#written.get(namespace), [namespaceNameLabel]: namespace };
  }
}
