import type { ResourceKind } from '../resources/kinds/resource.js';
import type { Resource } from '../resources/kinds/resource.js';

/** One document as it is stored, with the change that last touched it. */
export type StoredResource = {
  /** `kind.namespace.name`, the key in the bucket `culvert_config`. */
  readonly key: string;
  readonly resource: Resource;
  /** The change that last touched it: a revision of the rules, and for {@link inventoryKinds} a sequence of the inventory. */
  readonly revision: number;
  /** RFC 3339. */
  readonly appliedAt: string;
  readonly appliedBy: string;
};

/** What one change does to stored documents. Keys as in {@link StoredResource}. */
export type DocumentsChange = { readonly puts: readonly StoredResource[]; readonly deletes: readonly string[] };

/** Documents of these kinds are entries of the registry and belong to the inventory. All others are rules. */
export const inventoryKinds: readonly ResourceKind[] = ['Workload', 'Service'];

export function isInventoryKind(kind: string): boolean {
  return kind === 'Workload' || kind === 'Service';
}

/** Whether a key of `culvert_config` is that of a document of the inventory. */
export function isInventoryDocument(key: string): boolean {
  return key.startsWith('Workload.') || key.startsWith('Service.');
}

/** The key of the registry entry that a document of the inventory becomes. */
export function registryKeyOf(documentKey: string): string {
  return documentKey.charAt(0).toLowerCase() + documentKey.slice(1);
}

/** The key of the document that would become this registry entry. */
export function documentKeyOf(registryKey: string): string {
  return registryKey.charAt(0).toUpperCase() + registryKey.slice(1);
}
