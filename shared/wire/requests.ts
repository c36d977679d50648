import { z } from 'zod';
import { CulvertError } from '../errors.js';
import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { parseNodeName, type NodeName } from '../routing/names.js';

/**
 * What agents ask of the controller, and its answers: JSON over HTTPS for the join, JSON over NATS for the rest
 * (subjects `culvert.v1.<verb>.<node>`), where each answer is signed for its request, see sealed-answer.ts. Both sides
 * check what they receive with these schemas. Unknown fields are ignored, so that an agent and a controller of
 * different versions can talk during an upgrade.
 */

/** Upper bound of one request or answer, in bytes. Well below the 1 MiB that nats-server takes by default. */
export const maxWireBytes = 768 * 1024;
/** How many identities one `sign` request may name; an agent with more sends several requests. */
export const maxSignBatch = 64;

const maxPemLength = 64 * 1024;
const pem = z.string().min(1).max(maxPemLength);
const epochMs = z.number().int().nonnegative();
const spiffeId = z.custom<SpiffeId>((value) => typeof value === 'string' && parseSpiffeId(value) !== undefined, {
  message: 'must be a SPIFFE ID such as spiffe://culvert.local/ns/billing/sa/api',
});
const pemList = z.array(pem).max(16);

export const nodeName = z.custom<NodeName>((value) => typeof value === 'string' && parseNodeName(value) !== undefined, {
  message: 'must be lower-case letters, digits, "-" and ".", such as "host-a"',
});

/** Public half of an nkey of type user, as nkeys prints it. */
const natsUserPublicKey = z.string().regex(/^U[A-Z2-7]{55}$/, { message: 'must be the public key of a NATS user' });

/** `code` is stable, for programs; `hint` says what a person can do. */
export const wireErrorSchema = z.object({
  code: z.string().min(1).max(64),
  message: z.string().max(4096),
  hint: z.string().max(4096).nullable(),
});
export type WireError = z.infer<typeof wireErrorSchema>;

/** Verb `sign`: certificates for the identities of this node's workloads. */
export const signRequestSchema = z.object({
  requests: z
    .array(z.object({ identity: spiffeId, csrPem: pem }))
    .min(1)
    .max(maxSignBatch),
});
export type SignRequest = z.infer<typeof signRequestSchema>;

/** One result for each identity that was asked for, in the same order; one refusal does not spoil the others. */
export const signedCertificateSchema = z.object({ identity: spiffeId, chainPem: pem, notAfterMs: epochMs });
export const refusedCertificateSchema = z.object({ identity: spiffeId, error: wireErrorSchema });
export const signResponseSchema = z.object({
  rootsPem: pem,
  certificates: z.array(z.union([signedCertificateSchema, refusedCertificateSchema])).max(maxSignBatch),
});
export type SignResponse = z.infer<typeof signResponseSchema>;

/** Verb `renew`: the node's own certificate and its NATS credential, before they expire. */
export const renewRequestSchema = z.object({ csrPem: pem, natsUserPublicKey });
export type RenewRequest = z.infer<typeof renewRequestSchema>;

export const renewResponseSchema = z.object({
  nodeCertificatePem: pem,
  natsJwt: z.string().min(1).max(maxPemLength),
  /** When both expire, by the controller's clock. */
  notAfterMs: epochMs,
  rootsPem: pem,
  /** Keys that snapshots and registry entries may be signed with from now on, PEM (Ed25519). */
  signingPublicKeys: pemList.min(1),
});
export type RenewResponse = z.infer<typeof renewResponseSchema>;

export const workloadStatusSchema = z.object({
  /** `namespace/name`. */
  name: z.string().max(512),
  captured: z.boolean(),
  certificateNotAfterMs: epochMs.nullable(),
  /** Why it is not protected yet; null when all is well. */
  problem: z.string().max(2048).nullable(),
});

/** Verb `status`: the heartbeat, published every 5 s, when the enforced revision changes and soon after the registry does, not answered. */
export const heartbeatSchema = z.object({
  node: nodeName,
  version: z.string().max(128),
  /** The revision that the control thread has taken; null: none yet. */
  appliedRevision: z.number().int().nonnegative().nullable(),
  /** Every worker decides by `appliedRevision`. */
  enforcedByAllWorkers: z.boolean(),
  /** Why the newest rules were refused, so that older ones are in force; absent: they were not. */
  rulesAlarm: z.string().max(2048).exactOptional(),
  /** The highest sequence among the registry entries that the agent holds; null: it has not read the registry yet. */
  registrySequence: z.number().int().nonnegative().nullable(),
  /**
   * The sequence of the registry's root of which every worker has all entries; null: none was whole yet. Absent: an agent
   * that does not say.
   */
  inventorySequence: z.number().int().nonnegative().nullable().exactOptional(),
  /** The agent's clock when it sent this; the controller takes the skew from it. */
  nowMs: epochMs,
  startedAtMs: epochMs,
  workloads: z.array(workloadStatusSchema).max(4096),
  /** Names of what the agent still waits for, as its /readyz lists them. */
  pending: z.array(z.string().max(256)).max(4096),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

/** `POST /v1/join`. The secret in the token travels only after the agent has checked the CA hash. */
export const joinRequestSchema = z.object({
  token: z.string().min(1).max(1024),
  node: nodeName,
  csrPem: pem,
  natsUserPublicKey,
  version: z.string().max(128),
});
export type JoinRequest = z.infer<typeof joinRequestSchema>;

export const joinResponseSchema = z.object({
  nodeCertificatePem: pem,
  rootsPem: pem,
  /** `host:port` of each NATS server, best first. */
  natsServers: z.array(z.string().min(1).max(512)).min(1).max(64),
  /** The name that the certificate of nats-server carries; null: the host that was dialled. */
  natsServerName: z.string().max(253).nullable(),
  /** PEM of the CA that the NATS servers' certificates come from, when it is not the mesh's own; null: `rootsPem`. */
  natsCaPem: pem.nullable(),
  natsJwt: z.string().min(1).max(maxPemLength),
  signingPublicKeys: pemList.min(1),
  trustDomain: z.string().min(1).max(255),
  notAfterMs: epochMs,
});
export type JoinResponse = z.infer<typeof joinResponseSchema>;

/** `GET /v1/ca`: fetched before anything is trusted, then compared with the hash in the token. */
export const caResponseSchema = z.object({ rootsPem: pem });

/** What the controller answers over NATS when a whole request is refused. */
export const wireFailureSchema = z.object({ error: wireErrorSchema });

export function encodeWire(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/**
 * Reads one request or answer. Throws CulvertError `WIRE_INVALID` when it is too large, no JSON or of another shape,
 * and the error that the controller sent when the answer is a refusal of the whole request.
 */
export function decodeWire<Schema extends z.ZodType>(schema: Schema, bytes: Uint8Array): z.infer<Schema> {
  const json = parseJson(bytes);
  const failure = wireFailureSchema.safeParse(json);
  if (failure.success) {
    const { code, message, hint } = failure.data.error;
    throw new CulvertError(hint === null ? { code, message } : { code, message, hint });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw invalid(describeIssues(parsed.error));
  return parsed.data;
}

function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length > maxWireBytes) throw invalid(`it has ${bytes.length} bytes, the limit is ${maxWireBytes}`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid('it is no JSON', cause);
  }
}

function describeIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.map(String).join('.') || 'the whole'}: ${issue.message}`)
    .join('; ');
}

function invalid(detail: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'WIRE_INVALID',
    message: `A message between agent and controller cannot be used: ${detail}.`,
    hint: 'run the same version of culvert-agent and culvert-controller',
    cause,
  });
}
