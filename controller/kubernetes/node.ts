import { z } from 'zod';

const nodeSchema = z.object({
  metadata: z.object({
    name: z.string().min(1),
    uid: z.string().default(''),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
});
const zoneLabel = 'topology.kubernetes.io/zone';

/** What the mesh has to know of a Node (core/v1). `zone` null: it is in none. */
export type ClusterNode = { readonly name: string; readonly zone: string | null; readonly uid: string };

/** Throws where the object is no node. */
export function readNode(object: unknown): ClusterNode {
  const { name, uid, labels } = nodeSchema.parse(object).metadata;
  const zone = labels?.[zoneLabel];
  return { name, zone: zone === undefined || zone === '' ? null : zone, uid };
}
