import type { Resource } from '../resources/kinds/resource.js';

/** A stored document, with the change that last touched it. */
export type StoredResource = {
  /** `kind.namespace.name`, the key in the bucket `culvert_config`. */
  readonly key: string;
  readonly resource: Resource;
  /** A revision of the rules, or a sequence of the inventory for a Workload or Service. */
  readonly revision: number;
  /** RFC 3339. */
  readonly appliedAt: string;
  readonly appliedBy: string;
  /** A custom resource of a cluster, which is changed there. Absent: a document of `culvert apply`. */
  readonly origin?: 'cluster';
};

/** What a change does to stored documents. Keys are those of {@link StoredResource}. */
export type DocumentsChange = { readonly puts: readonly StoredResource[]; readonly deletes: readonly string[] };

/** Documents of these kinds become registry entries and belong to the inventory. All others are rules. */
export function isInventoryKind(kind: string): boolean {
  return kind === 'Workload' || kind === 'Service';
}

/** Whether a key of `culvert_config` is that of a document of the inventory. */
export function isInventoryDocument(key: string): boolean {
  return key.startsWith('Workload.') || key.startsWith('Service.');
}

/** The registry key of the entry that a document of the inventory becomes. */
export function registryKeyOf(documentKey: string): string {
  return documentKey.charAt(0).toLowerCase() + documentKey.slice(1);
}
