import { z } from 'zod';
import type { IpAddress } from '../../../shared/address.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { WorkloadCertificate } from '../credentials/certificate-rotator.js';
import type { StoredRegistry } from './registry-file.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

const identity = z.custom<SpiffeId>((value) => typeof value === 'string' && parseSpiffeId(value) !== undefined);

/** Sealed, as received. The signature is checked again when the state is loaded. */
const bytes = z.string().transform((text): Uint8Array => new Uint8Array(Buffer.from(text, 'base64')));

/** `state.json`: rules and certificates. */
export const stateFileSchema = z.object({
  /** Base64 of the sealed snapshot in force; null: none yet. */
  sealedSnapshot: bytes.nullable(),
  certificates: z.array(
    z.object({
      identity,
      chainPem: z.string(),
      keyPem: z.string(),
      notAfterMs: z.number(),
      obtainedAtMs: z.number(),
    }) satisfies z.ZodType<WorkloadCertificate>,
  ),
});

/**
 * Everything that the agent needs to serve while NATS and the controller are down. Rules and registry are kept as
 * received, with their signatures, so that a forged state file is useless.
 */
export type LastGoodState = {
  readonly sealedSnapshot: Uint8Array | null;
  readonly certificates: readonly WorkloadCertificate[];
  readonly registry: StoredRegistry;
};

/** What is written to `state.json`. */
export type RulesAndCertificates = Pick<LastGoodState, 'sealedSnapshot' | 'certificates'>;

export function encodeState(state: RulesAndCertificates): z.input<typeof stateFileSchema> {
  const { sealedSnapshot, certificates } = state;
  const text = sealedSnapshot === null ? null : Buffer.from(sealedSnapshot).toString('base64');
  return { sealedSnapshot: text, certificates: [...certificates] };
}

/**
 * Namespaces that may contain capture rules of this agent. Written before the first rule is loaded, so that removal
 * finds them all.
 */
export const capturedNamespacesSchema = z.object({
  namespaces: z.array(
    z.object({
      workload: z.string().transform((text) => text as WorkloadName),
      netnsPath: z.string(),
      netnsInode: z.number(),
      addresses: z.array(z.string().transform((text) => text as IpAddress)),
      /** Inode of the cgroup whose sockets its rules exempt; absent: none, or an agent of a version before wrote it. */
      ownCgroup: z.number().exactOptional(),
      /** When the machine starts again, inodes are used again. Absent: an agent of a version before wrote it. */
      boot: z.string().exactOptional(),
    }),
  ),
});

export type CapturedNamespaces = z.infer<typeof capturedNamespacesSchema>;
