import { z } from 'zod';
import { CulvertError } from '../errors.js';
import { signBytes, verifyBytes } from '../pki/signing-key.js';

/**
 * The controller signs what it sends through NATS, so that an attacker with write access to NATS cannot change a rule, an
 * address or a root. The signature covers a context, the payload's subject and its bytes, so bytes that were signed for one
 * purpose are never accepted for another. Receivers accept a list of keys, so that keys can rotate.
 *
 * Errors when opening: `SIGNATURE_INVALID` (no accepted key signed it), `PAYLOAD_TOO_LARGE`, `PAYLOAD_INVALID` (signed, but
 * this version does not know its format).
 */
export const envelopeSchema = z.strictObject({ payload: z.base64(), signature: z.base64().length(88) });
export type Envelope = z.infer<typeof envelopeSchema>;

/** Neither part contains a zero byte. */
export type SignedAs = {
  readonly context:
    | 'culvert.snapshot.v2'
    | 'culvert.registry.v1'
    | 'culvert.registry-root.v1'
    | 'culvert.newest.v1'
    | 'culvert.enrolment.v1'
    | 'culvert.answer.v1';
  /** Identifies the payload within its kind; `0` when there is only one. */
  readonly about: string;
};

export function signEnvelope(as: SignedAs, payload: Uint8Array, privateKeyPem: string): Envelope {
  const signature = signBytes(privateKeyPem, signedBytes(as, payload));
  return { payload: toBase64(payload), signature: toBase64(signature) };
}

/** Returns the payload if one of the keys (PEM) signed these exact bytes for this purpose. Errors: see {@link envelopeSchema}. */
export function verifiedPayload(as: SignedAs, envelope: Envelope, publicKeysPem: readonly string[]): Uint8Array {
  const payload = Buffer.from(envelope.payload, 'base64');
  const signature = Buffer.from(envelope.signature, 'base64');
  const bytes = signedBytes(as, payload);
  if (publicKeysPem.some((key) => verifyBytes(key, bytes, signature))) return payload;
  throw new CulvertError({
    code: 'SIGNATURE_INVALID',
    message: `a ${as.context} message is not signed with a key that this agent accepts`,
    hint: 'either someone else wrote it, or the controller has a new signing key: then join this node again',
  });
}

/** Encodes a payload as JSON. Throws CulvertError `PAYLOAD_TOO_LARGE`; `what` names the payload in the message, in the plural. */
export function encodePayload(value: unknown, maxBytes: number, what: string): Uint8Array {
  const payload = encodeJson(value);
  assertFits(payload, maxBytes, what);
  return payload;
}

/** Throws CulvertError `PAYLOAD_TOO_LARGE`. */
export function assertFits(payload: Uint8Array, maxBytes: number, what: string): void {
  if (payload.length <= maxBytes) return;
  throw new CulvertError({
    code: 'PAYLOAD_TOO_LARGE',
    message: `${what} take ${payload.length} bytes, more than the ${maxBytes} that fit in one message`,
    hint: 'use fewer rules, or segments and CIDR prefixes instead of long lists',
  });
}

export function decodeEnvelope<T extends Envelope>(
  bytes: Uint8Array,
  schema: z.ZodType<T>,
  maxPayloadBytes: number,
): T {
  // Base64 turns three bytes into four; the other fields take less than 1 KiB.
  const maxBytes = Math.ceil(maxPayloadBytes / 3) * 4 + 1024;
  if (bytes.length > maxBytes) {
    throw new CulvertError({
      code: 'PAYLOAD_TOO_LARGE',
      message: `a signed message of ${bytes.length} bytes exceeds the limit of ${maxBytes}`,
      hint: 'check who else writes to the buckets of the mesh: the controller never sends this',
    });
  }
  return parsePayload(bytes, schema, 'signed message');
}

export function parsePayload<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalidPayload(`the ${what} is not JSON`, cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw invalidPayload(`the ${what} is malformed at ${issue?.path.join('.') || 'its root'}: ${issue?.message}`);
}

export function invalidPayload(message: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'PAYLOAD_INVALID',
    message,
    hint: 'run agents that are not older than the controller',
    cause,
  });
}

export function encodeJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Context, zero byte, about, zero byte, payload. It is unambiguous, because the first two contain no zero byte. */
function signedBytes({ context, about }: SignedAs, payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${context}\0${about}\0`), payload]);
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
