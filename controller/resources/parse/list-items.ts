import { isMapping } from './is-mapping.js';

/** One document, or one item of a document that is a list. */
export type Item = {
  readonly json: unknown;
  /** Where it is in what was parsed. */
  readonly path: readonly PropertyKey[];
  /** Where it is in the document, for people: `items[3]`; empty for a document that is no list. */
  readonly place: readonly PropertyKey[];
};

/** What a list says about its items: nothing, or the kind and API version that they do not repeat. */
export type ItemType = { readonly apiVersion?: unknown; readonly kind?: string };

/**
 * The type of the items of a document that is a list of documents: `kind: List`, as `kubectl get` writes it, and a typed
 * list such as `NetworkPolicyList`, as the API server writes it. Null: the document is no list, so a kind that only ends
 * like one stays an unknown kind.
 */
export function itemTypeOf(json: unknown): ItemType | null {
  if (!isMapping(json) || typeof json['kind'] !== 'string' || !Object.hasOwn(json, 'items')) return null;
  const { apiVersion, kind, items } = json;
  // The server writes `items: null` for an empty list.
  if (!kind.endsWith('List') || (items !== null && !Array.isArray(items))) return null;
  return kind === 'List' ? {} : { apiVersion, kind: kind.slice(0, -'List'.length) };
}

/** The items of a list, and of lists in it; what is no list is its own only item. */
export function itemsOf(item: Item): readonly Item[] {
  const type = itemTypeOf(item.json);
  if (type === null) return [item];
  const items: readonly unknown[] = (item.json as { readonly items: readonly unknown[] | null }).items ?? [];
  return items.flatMap((json, index) => {
    const below = (path: Item['path']): Item['path'] => [...path, 'items', index];
    return itemsOf({ json: withType(type, json), path: below(item.path), place: below(item.place) });
  });
}

/** An item of a list with the kind and API version that the list says for all. */
export function withType(type: ItemType, item: unknown): unknown {
  return isMapping(item) ? { ...type, ...item } : item;
}
