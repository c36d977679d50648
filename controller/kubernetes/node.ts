import { z } from 'zod';
import { startupTaintKey } from '../install/install-options.js';

const taintSchema = z.looseObject({ key: z.string() });
const nodeSchema = z.object({
  metadata: z.object({
    name: z.string().min(1),
    uid: z.string().default(''),
    creationTimestamp: z.string().default(''),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
  spec: z.object({ taints: z.array(taintSchema).nullish() }).nullish(),
});
const zoneLabel = 'topology.kubernetes.io/zone';

/** What the mesh has to know of a Node (core/v1). */
export type ClusterNode = {
  readonly name: string;
  readonly uid: string;
  /** In milliseconds of the API server's clock; 0: it does not say. */
  readonly createdAtMs: number;
  /** Null: it is in none. */
  readonly zone: string | null;
  /** The taint with {@link startupTaintKey} as it is, and where it is among the taints; null: it has none. */
  readonly startupTaint: { readonly index: number; readonly taint: object } | null;
};

/** Throws where the object is no node. */
export function readNode(object: unknown): ClusterNode {
  const { metadata, spec } = nodeSchema.parse(object);
  const { name, uid, labels, creationTimestamp } = metadata;
  const zone = labels?.[zoneLabel];
  const createdAtMs = Date.parse(creationTimestamp);
  const taints = spec?.taints ?? [];
  const index = taints.findIndex(({ key }) => key === startupTaintKey);
  const taint = taints[index];
  return {
    name,
    uid,
    createdAtMs: Number.isNaN(createdAtMs) ? 0 : createdAtMs,
    zone: zone === undefined || zone === '' ? null : zone,
    startupTaint: taint === undefined ? null : { index, taint },
  };
}
