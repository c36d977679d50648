import type { Resource, ResourceKind } from './resource.js';

/** Identifies a resource; the namespace is null for mesh-wide kinds. */
export type ResourceId = { readonly kind: ResourceKind; readonly namespace: string | null; readonly name: string };

export function resourceId(resource: Resource): ResourceId {
  const namespace = 'namespace' in resource.metadata ? resource.metadata.namespace : null;
  return { kind: resource.kind, namespace, name: resource.metadata.name };
}

/** `Workload.billing.api`, `Segment.-.batch`: unique, and made only of characters that a NATS KV key may contain. */
export function resourceKey(resource: Resource): string {
  return resourceIdKey(resourceId(resource));
}

export function resourceIdKey(id: ResourceId): string {
  return `${id.kind}.${id.namespace ?? '-'}.${id.name}`;
}

/** `Workload/billing/api`, `Segment/batch`: for people. */
export function formatResourceId(id: ResourceId): string {
  return id.namespace === null ? `${id.kind}/${id.name}` : `${id.kind}/${id.namespace}/${id.name}`;
}
