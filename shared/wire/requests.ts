import { z } from 'zod';
import { CulvertError } from '../errors.js';
import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { parseNodeName, type NodeName } from '../routing/names.js';
import { trustReportSchema } from './trust-hint.js';

/**
 * Requests of agents and the controller's answers: JSON over HTTPS for the join, JSON over NATS for the rest (subjects
 * `culvert.v1.<verb>.<node>`), where the controller signs each answer for its request (see sealed-answer.ts). Both sides
 * validate what they receive with these schemas. Unknown fields are ignored, so that an agent and a controller of
 * different versions interoperate during an upgrade.
 */

/** Maximum size of a request or answer in bytes. Well below the default limit of nats-server, 1 MiB. */
export const maxWireBytes = 768 * 1024;
/** Maximum identities in one `sign` request; an agent with more sends several requests. */
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

/** Public half of a user nkey, as nkeys prints it. */
const natsUserPublicKey = z.string().regex(/^U[A-Z2-7]{55}$/, { message: 'must be the public key of a NATS user' });

/**
 * What the names of the node's consumers in NATS must begin with; no other names are allowed to `natsJwt`. Absent: any name is,
 * because the agent or the controller is of an earlier version.
 */
const consumerPrefix = z.string().regex(/^[\w-]{1,64}$/, { message: 'must be letters, digits, "-" and "_"' });

/** `code` is stable, for programs; `hint` tells people what to do. */
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

/** One result per requested identity, in the same order. A refusal does not affect the others. */
const signedCertificateSchema = z.object({ identity: spiffeId, chainPem: pem, notAfterMs: epochMs });
const refusedCertificateSchema = z.object({ identity: spiffeId, error: wireErrorSchema });
export const signResponseSchema = z.object({
  rootsPem: pem,
  certificates: z.array(z.union([signedCertificateSchema, refusedCertificateSchema])).max(maxSignBatch),
});
export type SignResponse = z.infer<typeof signResponseSchema>;

/** Verb `renew`: the node's own certificate and its NATS credential, before they expire. */
export const renewRequestSchema = z.object({
  csrPem: pem,
  natsUserPublicKey,
  /** The agent names its consumers by `consumerPrefix` of the answer. Absent: its version gives them names of its own. */
  namesConsumers: z.literal(true).exactOptional(),
});
export type RenewRequest = z.infer<typeof renewRequestSchema>;

export const renewResponseSchema = z.object({
  nodeCertificatePem: pem,
  natsJwt: z.string().min(1).max(maxPemLength),
  /** When both expire, by the controller's clock. */
  notAfterMs: epochMs,
  rootsPem: pem,
  /** Keys that snapshots and registry entries may be signed with from now on, PEM (Ed25519). */
  signingPublicKeys: pemList.min(1),
  consumerPrefix: consumerPrefix.exactOptional(),
});
export type RenewResponse = z.infer<typeof renewResponseSchema>;

const workloadStatusSchema = z.object({
  /** `namespace/name`. */
  name: z.string().max(512),
  captured: z.boolean(),
  certificateNotAfterMs: epochMs.nullable(),
  /** Why the workload is not protected yet; null when it is. */
  problem: z.string().max(2048).nullable(),
  /**
   * It is captured, but new connections of it are refused or pass unprotected, for `problem`. Absent: they are served, or the
   * agent's version does not report it.
   */
  isUnserved: z.literal(true).exactOptional(),
  /**
   * Why its connects to ports with `earlyAccept: false` are accepted early all the same. Absent: they are not, or the
   * agent's version does not report it.
   */
  lateAcceptProblem: z.string().max(2048).exactOptional(),
});

/**
 * Verb `status`: the heartbeat, published every 5 s, when the enforced revision changes and soon after the registry changes.
 * It gets no answer.
 */
export const heartbeatSchema = z.object({
  node: nodeName,
  version: z.string().max(128),
  /** The revision that the control thread has applied; null: none yet. */
  appliedRevision: z.number().int().nonnegative().nullable(),
  /** Every worker enforces `appliedRevision`. */
  enforcedByAllWorkers: z.boolean(),
  /** Why the newest rules were rejected and older ones stay in force; absent: they were accepted. */
  rulesAlarm: z.string().max(2048).exactOptional(),
  /**
   * Fields of the rules in force that the agent's version does not know, and passes over as the controller says that it may;
   * absent: none, or its version does not say.
   */
  passedOver: z.array(z.string().max(256)).max(64).exactOptional(),
  /** Why something of the registry was refused and the last good one stays; absent: nothing was, or its version does not say. */
  registryAlarm: z.string().max(2048).exactOptional(),
  /** Why the rules in force may be old; absent: nothing says that they are. */
  rulesAgeProblem: z.string().max(2048).exactOptional(),
  /** The highest sequence among the registry entries that the agent holds; null: it has not read the registry yet. */
  registrySequence: z.number().int().nonnegative().nullable(),
  /**
   * The sequence of the registry's root of which every worker has all entries; null: none was complete yet. Absent: the
   * agent's version does not report it.
   */
  inventorySequence: z.number().int().nonnegative().nullable().exactOptional(),
  /** The agent's clock when it sent this; the controller derives the clock skew from it. */
  nowMs: epochMs,
  startedAtMs: epochMs,
  /** The agent stops in order, and this is its last heartbeat. */
  isLast: z.literal(true).exactOptional(),
  workloads: z.array(workloadStatusSchema).max(4096),
  /** Absent: the agent's version does not report it. */
  trust: trustReportSchema.exactOptional(),
  /** Names of the tasks that the agent is waiting for, as in its /readyz. */
  pending: z.array(z.string().max(256)).max(4096),
  /**
   * What this host cannot promise of what others can, one sentence each; absent: nothing, or the agent's version does not
   * say.
   */
  weaknesses: z.array(z.string().max(2048)).max(16).exactOptional(),
  /**
   * Why pods of this host start without the CNI plugin; null: it is in the chain. Absent: the agent puts none there, or its
   * version does not say.
   */
  cniProblem: z.string().max(2048).nullable().exactOptional(),
  /** It has the list of the controller by which its CNI plugin knows which pods to wait for; absent: not, or not said. */
  knowsEnrolment: z.literal(true).exactOptional(),
  /** The setting `hostProbes`: whose connections from this host pass without a rule; absent: no program's, or not said. */
  hostProbes: z.array(z.string().max(512)).max(16).exactOptional(),
  /** Endpoints that workers of this agent have ejected; absent: none is, or the agent's version does not say. */
  ejected: z
    .array(
      z.object({
        /** `shop/web:80`, or `subset v2 of shop/web:80`. */
        destination: z.string().max(1024),
        /** The DestinationRule that ejects it, `namespace/name`; absent: the agent's version does not say. */
        rule: z.string().max(512).exactOptional(),
        /** Null: the endpoint is no workload of the mesh. */
        workload: z.string().max(512).nullable(),
        /** Address and port. */
        address: z.string().max(64),
        state: z.enum(['ejected', 'to be tried', 'on trial']),
        reason: z.string().max(64),
        count: z.number().int().nonnegative(),
        forMs: z.number().int().nonnegative(),
        /** Of the agent's data plane, that have ejected it. */
        threads: z.number().int().positive(),
      }),
    )
    .max(256)
    .exactOptional(),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

/** `POST /v1/join`. The agent sends the secret in the token only after it has verified the CA hash. */
export const joinRequestSchema = z.object({
  /** One of the controller's, or that of a service account of Kubernetes. */
  token: z.string().min(1).max(16_384),
  node: nodeName,
  csrPem: pem,
  natsUserPublicKey,
  version: z.string().max(128),
  /** As in {@link renewRequestSchema}. */
  namesConsumers: z.literal(true).exactOptional(),
});
export type JoinRequest = z.infer<typeof joinRequestSchema>;

export const joinResponseSchema = z.object({
  nodeCertificatePem: pem,
  rootsPem: pem,
  /** `host:port` of each NATS server, preferred first. */
  natsServers: z.array(z.string().min(1).max(512)).min(1).max(64),
  /** The name in the certificate of nats-server; null: the dialled host. */
  natsServerName: z.string().max(253).nullable(),
  /** PEM of the CA that issued the NATS servers' certificates, when it is not the mesh's own; null: `rootsPem`. */
  natsCaPem: pem.nullable(),
  natsJwt: z.string().min(1).max(maxPemLength),
  signingPublicKeys: pemList.min(1),
  trustDomain: z.string().min(1).max(255),
  notAfterMs: epochMs,
  consumerPrefix: consumerPrefix.exactOptional(),
  /** A sealed `NewestStatement` of this moment, base64. Absent: the controller's version makes none. */
  newest: z.base64().max(maxPemLength).exactOptional(),
});
export type JoinResponse = z.infer<typeof joinResponseSchema>;

/**
 * `GET /v1/ca[?nonce=]`: fetched without trust. A joining host verifies `rootsPem` with the hash in its token, and a member
 * verifies `sealed` with the keys that it pinned.
 */
export const caResponseSchema = z.object({
  rootsPem: pem,
  /** The roots again, signed as the answer to {@link rootsQuestion}, base64. Absent without a nonce. */
  sealed: z.base64().max(maxWireBytes).exactOptional(),
  /** For the request of a host that joins. Absent: the controller is of an earlier version. */
  trustDomain: z.string().max(255).exactOptional(),
});
export const sealedRootsSchema = z.object({ rootsPem: pem });
export const rootsNonce = z.string().regex(/^[\w-]{22,64}$/, { message: 'must be 22 to 64 characters of base64url' });

/** What the signature over the roots is for: this one question, so that an earlier answer cannot be used again. */
export function rootsQuestion(nonce: string): { readonly subject: string; readonly request: Uint8Array } {
  return { subject: 'culvert.v1.roots', request: new TextEncoder().encode(nonce) };
}

/** The controller's answer over NATS when it refuses a whole request. */
const wireFailureSchema = z.object({ error: wireErrorSchema });

export function encodeWire(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/**
 * Decodes a request or an answer. Throws CulvertError `WIRE_INVALID` when it is too large, not JSON or does not match the
 * schema. When the answer refuses the whole request, throws the error that the controller sent.
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
    throw invalid('it is not JSON', cause);
  }
}

function describeIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.map(String).join('.') || 'message'}: ${issue.message}`)
    .join('; ');
}

function invalid(detail: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'WIRE_INVALID',
    message: `a message between agent and controller is unusable: ${detail}`,
    hint: 'run the same version of culvert-agent and culvert-controller',
    cause,
  });
}
