import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { describeError } from '../errors.js';
import {
  assertFits,
  decodeEnvelope,
  encodeJson,
  envelopeSchema,
  invalidPayload,
  parsePayload,
  signEnvelope,
  verifiedPayload,
  type SignedAs,
} from './signed-envelope.js';

/**
 * What the registry consists of, signed: every key, with the sequence of its entry. A deletion in NATS is nobody's word,
 * and an entry that is missing may have been taken away: only what a later list leaves out is gone, and only a registry
 * that has all that the list names is whole.
 */
export type RegistryList = {
  /** The revision that it was made for; rises with every change of the registry. */
  readonly sequence: number;
  readonly entries: ReadonlyMap<string, number>;
  /** `groupDigests` of the sealed entries: they prove entries as their signatures do. None in lists of older controllers. */
  readonly digests: readonly string[];
};

/** Its key in `culvert_registry`, beside those of `registryKey`. */
export const registryListKey = 'list';

/** Signed bytes: some 100,000 keys, which are much alike. Fits in base64 into the 8 MiB of a message. */
const maxListBytes = 2 * 1024 * 1024;
const maxListTextBytes = 16 * 1024 * 1024;

const sequence = z.int().min(1);
const listEnvelopeSchema = envelopeSchema.extend({ sequence });
const entriesSchema = z.record(z.string().min(1).max(1024), sequence);
const payloadSchema = z.union([
  z.strictObject({ entries: entriesSchema, digests: z.array(z.base64().length(44)) }),
  entriesSchema.transform((entries) => ({ entries, digests: [] })),
]);

const asList = (about: number): SignedAs => ({ context: 'culvert.registry-list.v1', about: String(about) });

/** The same list gives the same bytes. Errors: `PAYLOAD_TOO_LARGE`. */
export function sealRegistryList(o: { readonly list: RegistryList; readonly privateKeyPem: string }): Uint8Array {
  const entries = [...o.list.entries].sort(([a], [b]) => (a < b ? -1 : 1));
  const text = encodeJson({ entries: Object.fromEntries(entries), digests: o.list.digests });
  assertFits(text, maxListTextBytes, 'the keys of the registry');
  const payload = gzipSync(text, { level: 1 });
  assertFits(payload, maxListBytes, 'the keys of the registry');
  return encodeJson({ ...signEnvelope(asList(o.list.sequence), payload, o.privateKeyPem), sequence: o.list.sequence });
}

/** The list, when one of the keys (PEM) signed it. The caller drops one with a lower sequence. Errors: see {@link envelopeSchema}. */
export function openRegistryList(o: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): RegistryList {
  const envelope = decodeEnvelope(o.bytes, listEnvelopeSchema, maxListBytes);
  const payload = verifiedPayload(asList(envelope.sequence), envelope, o.publicKeysPem);
  let text: Uint8Array;
  try {
    text = gunzipSync(payload, { maxOutputLength: maxListTextBytes });
  } catch (cause) {
    throw invalidPayload(`the list of the registry is malformed: ${describeError(cause)}`, cause);
  }
  const { entries, digests } = parsePayload(text, payloadSchema, 'list of the registry');
  return { sequence: envelope.sequence, entries: new Map(Object.entries(entries)), digests };
}
