import { z } from 'zod';
import { nodeName } from '../../../shared/wire/requests.js';

/**
 * What makes this host a member of the mesh: created by the join, renewed before it expires. The two private keys were
 * generated on this host and never leave it.
 */
export const nodeCredentialsSchema = z.object({
  node: nodeName,
  trustDomain: z.string(),
  nodeKeyPem: z.string(),
  nodeCertificatePem: z.string(),
  /** Seed of the NATS user's nkey. */
  natsSeed: z.string(),
  natsUserPublicKey: z.string(),
  natsJwt: z.string(),
  /** What the JWT requires of names of consumers. Absent: nothing, by a controller or in a file of an earlier version. */
  consumerPrefix: z.string().exactOptional(),
  natsServers: z.array(z.string()).min(1),
  natsServerName: z.string().nullable(),
  natsCaPem: z.string().nullable(),
  rootsPem: z.string(),
  /** Ed25519, PEM: keys that snapshots and registry entries must be signed with. Pinned by the join. */
  signingPublicKeys: z.array(z.string()).min(1),
  /** Where the host joined. Absent: the file is of an earlier version. */
  controllerUrl: z.string().exactOptional(),
  /**
   * What the controller said at the join was the newest, sealed, base64: an agent that never had rules refuses older ones.
   * Absent: the controller's version did not say it, or the file is of an earlier version.
   */
  newest: z.string().exactOptional(),
  /** When the certificate and the JWT expire, by the controller's clock. */
  notAfterMs: z.number(),
  /** When they were received, by the agent's clock. Half of the lifetime counts from here. */
  obtainedAtMs: z.number(),
});

export type NodeCredentials = z.infer<typeof nodeCredentialsSchema>;

/** Whether what the one's controller signs counts for the other. */
export function isOfSameMesh(
  a: Pick<NodeCredentials, 'signingPublicKeys'>,
  b: Pick<NodeCredentials, 'signingPublicKeys'>,
): boolean {
  return a.signingPublicKeys.some((key) => b.signingPublicKeys.includes(key));
}
