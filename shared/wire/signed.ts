import { z } from 'zod';
import { CulvertError } from '../errors.js';
import { signBytes, verifyBytes } from '../pki/signing-key.js';
import type { Snapshot } from '../policy/snapshot.js';
import { registryEntrySchema } from './registry-schema.js';
import { registryKey, type RegistryEntry } from './registry.js';
import { snapshotSchema } from './snapshot-schema.js';

/**
 * What the controller publishes is signed, so that whoever gets write access to NATS still cannot change a rule or an
 * address. The signature covers a context, the bytes of the payload and, for registry entries, a sequence: bytes that
 * were signed as one thing are never accepted as another. Receivers accept a list of keys, so that keys can rotate.
 *
 * Errors of `open…`: `SIGNATURE_INVALID` (no accepted key signed it), `PAYLOAD_TOO_LARGE`, `PAYLOAD_INVALID` (signed,
 * but not of the shape that this version knows).
 */
const contexts = { snapshot: 'culvert.snapshot.v1', registry: 'culvert.registry.v1' } as const;
type Context = (typeof contexts)[keyof typeof contexts];

/** Bytes of JSON. Both fit, in base64, into the 8 MiB that the embedded server takes per message. */
export const maxSnapshotBytes = 5 * 1024 * 1024;
export const maxRegistryEntryBytes = 256 * 1024;

const envelopeSchema = z.strictObject({ payload: z.base64(), signature: z.base64().length(88) });
const sequencedEnvelopeSchema = envelopeSchema.extend({ sequence: z.int().min(1) });

export function sealSnapshot(options: { readonly snapshot: Snapshot; readonly privateKeyPem: string }): Uint8Array {
  const payload = encodePayload(options.snapshot, maxSnapshotBytes, 'the compiled rules');
  const signature = signBytes(options.privateKeyPem, signedBytes(contexts.snapshot, 0, payload));
  return encodeJson({ payload: toBase64(payload), signature: toBase64(signature) });
}

/** The snapshot, when one of the keys (PEM) signed exactly these bytes as a snapshot. */
export function openSnapshot(options: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): Snapshot {
  const envelope = decodeEnvelope(options.bytes, envelopeSchema, maxSnapshotBytes);
  const payload = verifiedPayload(contexts.snapshot, 0, envelope, options.publicKeysPem);
  return parsePayload(payload, snapshotSchema, 'snapshot');
}

/** `sequence` counts up with every change that the controller makes to the registry, over all entries. */
export function sealRegistryEntry(options: {
  readonly entry: RegistryEntry;
  readonly sequence: number;
  readonly privateKeyPem: string;
}): Uint8Array {
  const { sequence } = options;
  const payload = encodePayload(
    options.entry,
    maxRegistryEntryBytes,
    `the registry entry ${registryKey(options.entry)}`,
  );
  const signature = signBytes(options.privateKeyPem, signedBytes(contexts.registry, sequence, payload));
  return encodeJson({ payload: toBase64(payload), signature: toBase64(signature), sequence });
}

/**
 * The entry and its sequence. `key` is where it was found: an entry that somebody moved to another key is refused.
 * The caller drops a sequence that is lower than the one it has for that key.
 */
export function openRegistryEntry(options: {
  readonly bytes: Uint8Array;
  readonly key: string;
  readonly publicKeysPem: readonly string[];
}): { entry: RegistryEntry; sequence: number } {
  const envelope = decodeEnvelope(options.bytes, sequencedEnvelopeSchema, maxRegistryEntryBytes);
  const payload = verifiedPayload(contexts.registry, envelope.sequence, envelope, options.publicKeysPem);
  const entry = parsePayload(payload, registryEntrySchema, 'registry entry');
  if (registryKey(entry) !== options.key) {
    throw invalidPayload(`the entry at ${options.key} is the one of ${registryKey(entry)}`);
  }
  return { entry, sequence: envelope.sequence };
}

function encodePayload(value: unknown, maxBytes: number, what: string): Uint8Array {
  const payload = encodeJson(value);
  if (payload.length <= maxBytes) return payload;
  throw new CulvertError({
    code: 'PAYLOAD_TOO_LARGE',
    message: `${what} take ${payload.length} bytes, more than the ${maxBytes} that one message may carry`,
    hint: 'use fewer rules, or segments and CIDR prefixes instead of long lists',
  });
}

function decodeEnvelope<T>(bytes: Uint8Array, schema: z.ZodType<T>, maxPayloadBytes: number): T {
  // Base64 makes three bytes four; 1 KiB is more than the other fields take.
  const maxBytes = Math.ceil(maxPayloadBytes / 3) * 4 + 1024;
  if (bytes.length > maxBytes) {
    throw new CulvertError({
      code: 'PAYLOAD_TOO_LARGE',
      message: `a signed message of ${bytes.length} bytes is refused: ${maxBytes} are the most`,
      hint: 'look at who else writes into the buckets of the mesh: the controller never sends this',
    });
  }
  return parsePayload(bytes, schema, 'signed message');
}

function verifiedPayload(
  context: Context,
  sequence: number,
  envelope: { readonly payload: string; readonly signature: string },
  publicKeysPem: readonly string[],
): Uint8Array {
  const payload = Buffer.from(envelope.payload, 'base64');
  const signature = Buffer.from(envelope.signature, 'base64');
  const bytes = signedBytes(context, sequence, payload);
  if (publicKeysPem.some((key) => verifyBytes(key, bytes, signature))) return payload;
  throw new CulvertError({
    code: 'SIGNATURE_INVALID',
    message: `a ${context} message carries no signature of a key that this agent accepts`,
    hint: 'somebody else wrote it, or the controller has a new signing key: then join this node again',
  });
}

/** Context, zero byte, sequence, zero byte, payload: the first two contain no zero byte, so it can be read in one way only. */
function signedBytes(context: Context, sequence: number, payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${context}\0${sequence}\0`), payload]);
}

function parsePayload<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalidPayload(`the ${what} is no JSON`, cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw invalidPayload(`the ${what} is malformed at ${issue?.path.join('.') || 'its root'}: ${issue?.message}`);
}

function invalidPayload(message: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'PAYLOAD_INVALID',
    message,
    hint: 'run agents that are not older than the controller',
    cause,
  });
}

function encodeJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
