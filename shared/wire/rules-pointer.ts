import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * The value of the key `current` in the bucket `culvert_rules`, which points to the snapshot in force. It is updated by
 * compare-and-set after the snapshot is stored. It needs no signature: the snapshot is signed and contains its revision.
 */
export const rulesPointerSchema = z.object({
  revision: z.number().int().min(1),
  /** Key of the signed snapshot in the same bucket. */
  key: z.string().regex(/^snapshot\.\d+$/),
  /** Hash of the bytes at `key`, hex. It detects a store that was only partly restored. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type RulesPointer = z.infer<typeof rulesPointerSchema>;

export function snapshotKey(revision: number): string {
  return `snapshot.${revision}`;
}

/** Creates the pointer to a sealed snapshot. */
export function pointerTo(revision: number, sealed: Uint8Array): RulesPointer {
  return { revision, key: snapshotKey(revision), sha256: createHash('sha256').update(sealed).digest('hex') };
}
