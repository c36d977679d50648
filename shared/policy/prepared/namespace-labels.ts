import type { Snapshot } from '../snapshot.js';

/** The label that Kubernetes gives every namespace, with the namespace's name as its value (KEP-2161). */
export const namespaceNameLabel = 'kubernetes.io/metadata.name';

/** Labels of namespaces, including those without a Namespace document. */
export class NamespaceLabels {
  readonly #written: ReadonlyMap<string, Readonly<Record<string, string>>>;

  constructor({ namespaces }: Pick<Snapshot, 'namespaces'>) {
    this.#written = new Map(Object.entries(namespaces));
  }

  of(namespace: string): Readonly<Record<string, string>> {
    return { ...this.#written.get(namespace), [namespaceNameLabel]: namespace };
  }
}
