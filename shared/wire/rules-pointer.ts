import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * What the key `current` of the bucket `culvert_rules` holds: which snapshot is in force. It moves by compare-and-set,
 * after the snapshot is stored. It is not signed: the snapshot is, and carries its revision.
 */
export const rulesPointerSchema = z.object({
  revision: z.number().int().min(1),
  /** Where the signed snapshot is, in the same bucket. */
  key: z.string().regex(/^snapshot\.\d+$/),
  /** Of the bytes at `key`, hex: tells a half-restored store from the one that the pointer was written for. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type RulesPointer = z.infer<typeof rulesPointerSchema>;

export function snapshotKey(revision: number): string {
  return `snapshot.${revision}`;
}

/** The pointer to a sealed snapshot. */
export function pointerTo(revision: number, sealed: Uint8Array): RulesPointer {
  return { revision, key: snapshotKey(revision), sha256: createHash('sha256').update(sealed).digest('hex') };
}
