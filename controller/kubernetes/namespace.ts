import { z } from 'zod';

const namespaceSchema = z.object({
  metadata: z.object({ name: z.string().min(1), labels: z.record(z.string(), z.string()).nullish() }),
});

/** What the mesh has to know of a Namespace (core/v1). */
export type ClusterNamespace = { readonly name: string; readonly labels: Readonly<Record<string, string>> };

/** Throws where the object is no namespace. */
export function readNamespace(object: unknown): ClusterNamespace {
  const { name, labels } = namespaceSchema.parse(object).metadata;
  return { name, labels: labels ?? {} };
}
