import { z } from 'zod';
import type { IpAddress } from '../../shared/address.js';
import { parseSpiffeId, type SpiffeId } from '../../shared/identity.js';
import type { WorkloadCertificate } from './certificate-keeper.js';

const identity = z.custom<SpiffeId>((value) => typeof value === 'string' && parseSpiffeId(value) !== undefined);

/** Sealed, as received: the signature is checked again when it is loaded. */
const bytes = z.string().transform((text): Uint8Array => new Uint8Array(Buffer.from(text, 'base64')));

/**
 * Everything that the agent needs to serve while NATS and the controller are away. Rules and registry are kept as
 * they came, signature included, so that a state file that somebody wrote by hand is worth nothing.
 */
export const lastGoodStateSchema = z.object({
  /** Base64 of the sealed snapshot in force; null: none yet. */
  sealedSnapshot: bytes.nullable(),
  registry: z.array(z.object({ key: z.string(), sealed: bytes })),
  /** False until a whole list was received once: then an empty registry is known to be empty. */
  isRegistryComplete: z.boolean(),
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

export type LastGoodState = z.infer<typeof lastGoodStateSchema>;

export function encodeLastGoodState(state: LastGoodState): z.input<typeof lastGoodStateSchema> {
  const base64 = ({ buffer, byteOffset, length }: Uint8Array): string =>
    Buffer.from(buffer, byteOffset, length).toString('base64');
  return {
    ...state,
    sealedSnapshot: state.sealedSnapshot === null ? null : base64(state.sealedSnapshot),
    registry: state.registry.map(({ key, sealed }) => ({ key, sealed: base64(sealed) })),
  };
}

/** Namespaces that may contain capture rules of this agent. Written before the first rule, so removal finds them all. */
export const capturedNamespacesSchema = z.object({
  namespaces: z.array(
    z.object({
      workload: z.string(),
      netnsPath: z.string(),
      netnsInode: z.number(),
      addresses: z.array(z.string().transform((text) => text as IpAddress)),
    }),
  ),
});

export type CapturedNamespaces = z.infer<typeof capturedNamespacesSchema>;
