import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { CulvertError, describeError } from '../errors.js';
import type { Snapshot } from '../policy/snapshot.js';
import { registryEntrySchema } from './registry-schema.js';
import { registryKey, type RegistryEntry } from '../routing/registry-entry.js';
import {
  assertFits,
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
import { claimsOf, UnreadableEntryError } from './unreadable-entry.js';
import { readTolerantly } from './snapshot-schema.js';
import { SnapshotReader, writeSnapshot } from './snapshot-text.js';

/** Bytes that are signed. Both fit, in base64, into the 8 MiB that the embedded server takes per message. */
export const maxSnapshotBytes = 5 * 1024 * 1024;
export const maxRegistryEntryBytes = 256 * 1024;
/** Maximum size of a snapshot before compression; rules are similar and shrink to a tenth. */
export const maxSnapshotTextBytes = 64 * 1024 * 1024;

const asSnapshot: SignedAs = { context: 'culvert.snapshot.v2', about: '0' };
const asEntry = (sequence: number): SignedAs => ({ context: 'culvert.registry.v1', about: String(sequence) });

const sequencedEnvelopeSchema = envelopeSchema.extend({ sequence: z.int().min(1) });

/** Signs a snapshot. The same snapshot gives the same bytes. Errors: `PAYLOAD_TOO_LARGE`. */
export function sealSnapshot(init: { readonly snapshot: Snapshot; readonly privateKeyPem: string }): Uint8Array {
  const what = 'the compiled rules';
  const text = Buffer.from(writeSnapshot(init.snapshot));
  assertFits(text, maxSnapshotTextBytes, what);
  const payload = gzipSync(text, { level: 1 });
  assertFits(payload, maxSnapshotBytes, what);
  return encodeJson(signEnvelope(asSnapshot, payload, init.privateKeyPem));
}

/** A reader for successive snapshots with {@link openSnapshot}; it validates only what is new in each. */
export function snapshotReader(): SnapshotReader {
  return new SnapshotReader({ check: readTolerantly });
}

/** Returns the snapshot if one of the keys (PEM) signed these exact bytes as a snapshot. Errors: see {@link envelopeSchema}. */
export function openSnapshot(init: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
  readonly reader?: SnapshotReader;
}): Snapshot {
  const envelope = decodeEnvelope(init.bytes, envelopeSchema, maxSnapshotBytes);
  const payload = verifiedPayload(asSnapshot, envelope, init.publicKeysPem);
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(
      gunzipSync(payload, { maxOutputLength: maxSnapshotTextBytes }),
    );
    return (init.reader ?? snapshotReader()).read(text);
  } catch (cause) {
    throw invalidPayload(`the snapshot is malformed: ${describeMalformed(cause)}`, cause);
  }
}

function describeMalformed(cause: unknown): string {
  const issue = cause instanceof z.ZodError ? cause.issues[0] : undefined;
  return issue === undefined ? describeError(cause) : `at ${issue.path.join('.') || 'its root'}: ${issue.message}`;
}

/** Signs a registry entry. `sequence` increases with every change to the registry, across all entries. */
export function sealRegistryEntry(init: {
  readonly entry: RegistryEntry;
  readonly sequence: number;
  readonly privateKeyPem: string;
}): Uint8Array {
  const { entry, sequence } = init;
  const payload = encodePayload(entry, maxRegistryEntryBytes, `the registry entry ${registryKey(entry)}`);
  return encodeJson({ ...signEnvelope(asEntry(sequence), payload, init.privateKeyPem), sequence });
}

/**
 * Returns the entry and its sequence. `key` is the key that it was read from: an entry that was moved to another key is
 * refused. The caller drops a sequence that is lower than the one it has for that key. Errors: see {@link envelopeSchema};
 * {@link UnreadableEntryError} for a signed entry that this version cannot read as a whole.
 */
export function openRegistryEntry(init: {
  readonly bytes: Uint8Array;
  readonly key: string;
  readonly publicKeysPem: readonly string[];
}): { entry: RegistryEntry; sequence: number } {
  const envelope = decodeEnvelope(init.bytes, sequencedEnvelopeSchema, maxRegistryEntryBytes);
  const payload = verifiedPayload(asEntry(envelope.sequence), envelope, init.publicKeysPem);
  return { entry: entryAt(init.key, payload, envelope.sequence), sequence: envelope.sequence };
}

/**
 * The same without checking the signature, for bytes that a digest in a signed list has already verified.
 * Errors: as {@link openRegistryEntry}.
 */
export function openProvenRegistryEntry(init: { readonly bytes: Uint8Array; readonly key: string }): {
  entry: RegistryEntry;
  sequence: number;
} {
  const envelope = decodeEnvelope(init.bytes, sequencedEnvelopeSchema, maxRegistryEntryBytes);
  const { payload, sequence } = envelope;
  return { entry: entryAt(init.key, Buffer.from(payload, 'base64'), sequence), sequence };
}

function entryAt(key: string, payload: Uint8Array, sequence: number): RegistryEntry {
  const entry = readEntry(key, payload, sequence);
  if (registryKey(entry) === key) return entry;
  throw invalidPayload(`the entry at ${key} belongs to ${registryKey(entry)}`);
}

function readEntry(key: string, payload: Uint8Array, sequence: number): RegistryEntry {
  try {
    return parsePayload(payload, registryEntrySchema, 'registry entry');
  } catch (cause) {
    const claims = claimsOf(key, payload);
    if (claims === null || !(cause instanceof CulvertError)) throw cause;
    throw new UnreadableEntryError({ cause, sequence, claims });
  }
}
