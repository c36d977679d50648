import { z } from 'zod';

const rootHash = z.string().regex(/^[0-9a-f]{64}$/);

/** The most roots that one mesh has at a time. */
export const maxRoots = 16;

/**
 * Which roots the controller trusts and which one it signs under, as hashes (see `certificateHash`), under
 * {@link trustHintKey} in the bucket of the rules. It is not signed and proves nothing: an agent that holds something else
 * only asks the controller sooner than it would have, and believes the signed answer.
 */
export const trustHintKey = 'trust';

const trustHintSchema = z.object({ roots: z.array(rootHash).min(1).max(maxRoots), signsUnder: rootHash });
export type TrustHint = z.infer<typeof trustHintSchema>;

/** What an agent says of itself in its heartbeat: the roots it trusts, and those that its own certificates end at. */
export const trustReportSchema = z.object({
  trusts: z.array(rootHash).max(maxRoots).readonly(),
  /** Of the node's certificate and of every workload's. */
  proves: z.array(rootHash).max(maxRoots).readonly(),
});
export type TrustReport = z.infer<typeof trustReportSchema>;

export function encodeTrustHint(hint: TrustHint): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(hint));
}

/** Undefined for anything that is not a hint. */
export function decodeTrustHint(bytes: Uint8Array): TrustHint | undefined {
  try {
    return trustHintSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data;
  } catch {
    return undefined;
  }
}
