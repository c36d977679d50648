import { z } from 'zod';
import { hashSpace, maxLeafDepth, pageKeyOf, type RegistryLeaf } from './registry-leaf.js';
import {
  assertFits,
  decodeEnvelope,
  encodeJson,
  envelopeSchema,
  invalidPayload,
  signEnvelope,
  verifiedPayload,
  type SignedAs,
} from './signed-envelope.js';

/**
 * The signed manifest of the registry: the SHA-256 of each of its pages, which list the keys. NATS is not trusted with
 * deletions: an entry is removed only when a later page no longer lists it, and a registry is complete only when everything
 * that its pages list is there. A change rewrites the root and the pages that it touches.
 */
export type RegistryRoot = {
  /** Rises with every change of the registry. */
  readonly sequence: number;
  /** In the order of `start`. Together they cover every hash once. */
  readonly pages: readonly ListedPage[];
};

export type ListedPage = RegistryLeaf & {
  /** The page's key in the bucket. */
  readonly key: string;
  /** SHA-256 of its bytes, base64. */
  readonly digest: string;
};

/** The root's key in `culvert_registry`. The other keys are those of entries (`registryKey`) and of pages. */
export const registryRootKey = 'list';

const digestBytes = 32;
/** A record is the depth, then the digest. */
const recordBytes = 1 + digestBytes;
/** About 30,000 pages, more than ten million keys. */
const maxRootBytes = 1024 * 1024;

const rootEnvelopeSchema = envelopeSchema.extend({ sequence: z.int().min(1) });
const asRoot = (about: number): SignedAs => ({ context: 'culvert.registry-root.v1', about: String(about) });

/** The same root gives the same bytes. Errors: `PAYLOAD_TOO_LARGE`. */
export function sealRegistryRoot(init: { readonly root: RegistryRoot; readonly privateKeyPem: string }): Uint8Array {
  const { sequence, pages } = init.root;
  const payload = Buffer.alloc(pages.length * recordBytes);
  for (const [at, { depth, digest }] of pages.entries()) {
    payload[at * recordBytes] = depth;
    payload.write(digest, at * recordBytes + 1, 'base64');
  }
  assertFits(payload, maxRootBytes, 'the pages of the registry');
  return encodeJson({ ...signEnvelope(asRoot(sequence), payload, init.privateKeyPem), sequence });
}

/** Opens a root that one of the keys (PEM) signed. The caller rejects a lower sequence. Errors: see {@link envelopeSchema}. */
export function openRegistryRoot(init: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): RegistryRoot {
  const envelope = decodeEnvelope(init.bytes, rootEnvelopeSchema, maxRootBytes);
  const payload = Buffer.from(verifiedPayload(asRoot(envelope.sequence), envelope, init.publicKeysPem));
  const pages: ListedPage[] = [];
  let start = 0;
  for (let at = 0; at + recordBytes <= payload.length; at += recordBytes) {
    const depth = payload[at] ?? 0;
    const size = 2 ** (32 - depth);
    if (depth > maxLeafDepth || start % size !== 0 || start + size > hashSpace) throw malformed();
    const digest = payload.toString('base64', at + 1, at + recordBytes);
    pages.push({ depth, start, key: pageKeyOf({ depth, start }), digest });
    start += size;
  }
  if (start !== hashSpace || pages.length * recordBytes !== payload.length) throw malformed();
  return { sequence: envelope.sequence, pages };
}

/** The page that keys with this hash belong to. */
export function pageOfHash(root: RegistryRoot, hash: number): ListedPage {
  let [low, high] = [0, root.pages.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((root.pages[middle]?.start ?? hashSpace) <= hash) low = middle;
    else high = middle - 1;
  }
  const page = root.pages[low];
  if (page === undefined) throw malformed();
  return page;
}

function malformed(): Error {
  return invalidPayload('the root of the registry is malformed: its pages do not cover every hash once');
}
