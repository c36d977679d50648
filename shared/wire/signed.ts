import { z } from 'zod';
import type { Snapshot } from '../policy/snapshot.js';
import { registryEntrySchema } from './registry-schema.js';
import { registryKey, type RegistryEntry } from './registry.js';
import {
  decodeEnvelope,
  encodeJson,
  encodePayload,
  envelopeSchema,
  invalidPayload,
  parsePayload,
  signEnvelope,
  verifiedPayload,
  type SignedAs,
} from './signed-envelope.js';
import { snapshotSchema } from './snapshot-schema.js';

/** Bytes of JSON. Both fit, in base64, into the 8 MiB that the embedded server takes per message. */
export const maxSnapshotBytes = 5 * 1024 * 1024;
export const maxRegistryEntryBytes = 256 * 1024;

const asSnapshot: SignedAs = { context: 'culvert.snapshot.v1', about: '0' };
const asEntry = (sequence: number): SignedAs => ({ context: 'culvert.registry.v1', about: String(sequence) });

const sequencedEnvelopeSchema = envelopeSchema.extend({ sequence: z.int().min(1) });

/** Errors of `seal…`: `PAYLOAD_TOO_LARGE`. */
export function sealSnapshot(options: { readonly snapshot: Snapshot; readonly privateKeyPem: string }): Uint8Array {
  const payload = encodePayload(options.snapshot, maxSnapshotBytes, 'the compiled rules');
  return encodeJson(signEnvelope(asSnapshot, payload, options.privateKeyPem));
}

/** The snapshot, when one of the keys (PEM) signed exactly these bytes as a snapshot. Errors: see {@link envelopeSchema}. */
export function openSnapshot(options: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): Snapshot {
  const envelope = decodeEnvelope(options.bytes, envelopeSchema, maxSnapshotBytes);
  const payload = verifiedPayload(asSnapshot, envelope, options.publicKeysPem);
  return parsePayload(payload, snapshotSchema, 'snapshot');
}

/** `sequence` counts up with every change that the controller makes to the registry, over all entries. */
export function sealRegistryEntry(options: {
  readonly entry: RegistryEntry;
  readonly sequence: number;
  readonly privateKeyPem: string;
}): Uint8Array {
  const { entry, sequence } = options;
  const payload = encodePayload(entry, maxRegistryEntryBytes, `the registry entry ${registryKey(entry)}`);
  return encodeJson({ ...signEnvelope(asEntry(sequence), payload, options.privateKeyPem), sequence });
}

/**
 * The entry and its sequence. `key` is where it was found: an entry that somebody moved to another key is refused.
 * The caller drops a sequence that is lower than the one it has for that key. Errors: see {@link envelopeSchema}.
 */
export function openRegistryEntry(options: {
  readonly bytes: Uint8Array;
  readonly key: string;
  readonly publicKeysPem: readonly string[];
}): { entry: RegistryEntry; sequence: number } {
  const envelope = decodeEnvelope(options.bytes, sequencedEnvelopeSchema, maxRegistryEntryBytes);
  const payload = verifiedPayload(asEntry(envelope.sequence), envelope, options.publicKeysPem);
  const entry = parsePayload(payload, registryEntrySchema, 'registry entry');
  if (registryKey(entry) !== options.key) {
    throw invalidPayload(`the entry at ${options.key} is the one of ${registryKey(entry)}`);
  }
  return { entry, sequence: envelope.sequence };
}
