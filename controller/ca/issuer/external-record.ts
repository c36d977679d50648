import { z } from 'zod';

const pem = z.string().max(256 * 1024);

/** What is known of an issuer elsewhere, as `ca/external.json` has it. Certificates, PEM; nothing in it is secret. */
export const externalRecordSchema = z.object({
  /** The roots that count for it: those of `issuerRootsFile`, or the one that it had when it was taken up. */
  rootsPem: pem.min(1),
  /** Those of `rootsPem` at which certificates have ended, oldest first; the last one is in use. */
  usedRoots: z.array(pem.min(1)).min(1).max(64),
  /** The root at which its certificates end. */
  rootPem: pem.min(1),
  /** The certificates between a leaf and the root, as they were proved last; empty: the root itself signs. */
  issuersPem: pem,
});
export type ExternalRecord = z.infer<typeof externalRecordSchema>;
