import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { CulvertError } from '../errors.js';
import type { NodeName } from '../routing/names.js';
import { describeCertificate } from '../pki/certificate-info.js';
import { problemOfNodeProof, signAsNode } from '../pki/node-proof.js';
import { decodeWire, encodeWire } from './requests.js';

/**
 * Agents sign each request for certificates and credentials with the key of their node certificate. The subject alone is
 * not enough: an attacker with write access to NATS could request every identity of the mesh. Replaying a request is
 * useless, because the answer is a certificate for a key that the attacker does not have.
 */

const envelopeSchema = z.object({
  /** JSON of the request, base64. */
  payload: z.base64().min(1),
  /** The node's certificate and its issuers, without the root, PEM. */
  certificatePem: z
    .string()
    .min(1)
    .max(32 * 1024),
  /** ECDSA signature of {@link signedBytes}, base64. */
  signature: z.base64().min(1).max(128),
});

export type NodeKey = { readonly nodeCertificatePem: string; readonly nodeKeyPem: string };

/** Signs a request for `subject`. 128 random bits make its bytes unique, so that its answer fits no other request. */
export function sealRequest(init: {
  readonly subject: string;
  readonly body: object;
  readonly nodeKey: NodeKey;
}): Uint8Array {
  const { nodeCertificatePem, nodeKeyPem } = init.nodeKey;
  const payload = Buffer.from(encodeWire({ ...init.body, nonce: randomBytes(16).toString('base64url') }));
  const signature = signAsNode({ bytes: signedBytes(init.subject, payload), privateKeyPem: nodeKeyPem });
  return encodeWire({
    payload: payload.toString('base64'),
    certificatePem: nodeCertificatePem,
    signature: Buffer.from(signature).toString('base64'),
  });
}

/**
 * Returns the JSON of a request if the node signed it for this subject. Errors: `WIRE_INVALID`, `REQUEST_UNPROVEN` when it
 * does not prove the node, and `NODE_REMOVED` when the node was removed since its certificate was issued.
 */
export function openRequest(init: {
  readonly subject: string;
  readonly bytes: Uint8Array;
  /** SPIFFE ID of the node that the subject names. */
  readonly spiffeId: string;
  readonly rootsPem: string;
  readonly nowMs: number;
  /** Whether the certificate with this serial (lower-case hex) no longer counts; default: all count. */
  readonly isRevoked?: (serial: string) => boolean;
}): Uint8Array {
  const envelope = decodeWire(envelopeSchema, init.bytes);
  const payload = Buffer.from(envelope.payload, 'base64');
  const problem = problemOfNodeProof({
    bytes: signedBytes(init.subject, payload),
    signature: Buffer.from(envelope.signature, 'base64'),
    chainPem: envelope.certificatePem,
    rootsPem: init.rootsPem,
    spiffeId: init.spiffeId,
    nowMs: init.nowMs,
  });
  if (problem === null) {
    if (init.isRevoked?.(describeCertificate(envelope.certificatePem).serial) === true)
      throw nodeRemoved(init.spiffeId);
    return payload;
  }
  throw new CulvertError({
    code: 'REQUEST_UNPROVEN',
    message: `the request does not prove the node ${init.spiffeId}: ${problem}`,
    hint: 'correct the clock of that host if it is wrong; otherwise join it again: culvert token create --node NODE',
  });
}

/** The refusal of a request of a node that was removed and has not joined again. */
export function nodeRemoved(spiffeId: string): CulvertError {
  return new CulvertError({
    code: 'NODE_REMOVED',
    message: `the node ${spiffeId} was removed from the mesh`,
    hint: 'if that was a mistake, join the host again: culvert token create --node NODE',
  });
}

/** The refusal of a request during which the node was removed. */
export function nodeWentDuring(node: NodeName): CulvertError {
  return new CulvertError({
    code: 'NODE_REMOVED',
    message: `the node ${node} was removed from the mesh while this request was under way`,
    hint: 'if that was a mistake, join the host again: culvert token create --node NODE',
  });
}

/** Context, zero byte, subject, zero byte, payload. It is unambiguous, because the first two contain no zero byte. */
function signedBytes(subject: string, payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`culvert.request.v1\0${subject}\0`), payload]);
}
