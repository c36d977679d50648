import { hash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { describeError } from '../errors.js';
import { keyHash, leafHas, type RegistryLeaf } from './registry-leaf.js';
import { assertFits, invalidPayload, parsePayload } from './signed-envelope.js';

/**
 * The keys of the registry whose hashes belong to one leaf, with the sequences of their entries. A page is not signed. The
 * root has the SHA-256 of its bytes; check it before decoding the page.
 */
export type RegistryPage = {
  readonly entries: ReadonlyMap<string, number>;
  /** {@link groupDigest} of the sealed entries: it proves them as their signatures do. */
  readonly digest: string;
};

export const maxPageBytes = 1024 * 1024;
const maxKeyLength = 1024;
const maxPageTextBytes = 8 * 1024 * 1024;
/** A page has about 16 KiB of text. The default settings prepare 256 KiB of memory for it, and give no smaller page. */
const compression = { level: 1, windowBits: 13, memLevel: 6 };

const pageSchema = z.strictObject({
  // A schema of keys and values would take most of the time that an agent needs for a change.
  entries: z.custom<Readonly<Record<string, number>>>(areSequences, 'sequences by key expected'),
  digest: z.base64().length(44),
});

function areSequences(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.entries(value).every(
    ([key, sequence]) => key !== '' && key.length <= maxKeyLength && Number.isSafeInteger(sequence) && sequence >= 1,
  );
}

/** What a page has of one entry. Pages are built again and again, so each entry's part is made once ({@link pagePart}). */
export type PagePart = {
  /** A comma, then key and sequence as in the text of the page. Bytes: to join strings would take most of a page's time. */
  readonly text: Uint8Array;
  /** Key and digest, as {@link groupDigest} hashes them. */
  readonly hashed: Uint8Array;
};

export function pagePart(init: {
  readonly key: string;
  readonly sequence: number;
  readonly sealed: Uint8Array;
}): PagePart {
  const { key, sequence, sealed } = init;
  return { text: Buffer.from(`,${JSON.stringify(key)}:${sequence}`), hashed: hashedPart(key, entryDigest(sealed)) };
}

/** The same entries give the same bytes. `parts` are in the order of their keys. Errors: `PAYLOAD_TOO_LARGE`. */
export function encodeRegistryPage(parts: readonly PagePart[]): Uint8Array {
  const digest = digestOf(parts.map(({ hashed }) => hashed));
  const listed = parts.map(({ text }, at) => (at === 0 ? text.subarray(1) : text));
  const text = Buffer.concat([Buffer.from('{"entries":{'), ...listed, Buffer.from(`},"digest":"${digest}"}`)]);
  assertFits(text, maxPageTextBytes, 'the keys of a page of the registry');
  const bytes = gzipSync(text, compression);
  assertFits(bytes, maxPageBytes, 'the keys of a page of the registry');
  return bytes;
}

/** SHA-256 of the bytes of a page, in base64, as in the root. */
export function pageDigest(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64');
}

/** Decodes bytes that a root proves. Errors: `PAYLOAD_INVALID`, also for keys that do not belong to the leaf. */
export function decodeRegistryPage(init: { readonly bytes: Uint8Array; readonly leaf: RegistryLeaf }): RegistryPage {
  let text: Uint8Array;
  try {
    text = gunzipSync(init.bytes, { maxOutputLength: maxPageTextBytes });
  } catch (cause) {
    throw invalidPayload(`a page of the registry is malformed: ${describeError(cause)}`, cause);
  }
  const { entries, digest } = parsePayload(text, pageSchema, 'page of the registry');
  const keys = Object.keys(entries);
  const stray = keys.find((key) => !leafHas(init.leaf, keyHash(key)));
  if (stray !== undefined) throw invalidPayload(`a page of the registry lists ${stray}, which belongs to another page`);
  return { entries: new Map(Object.entries(entries)), digest };
}

/** SHA-256 of an entry's sealed bytes, for {@link groupDigest}. */
export function entryDigest(sealed: Uint8Array): Uint8Array {
  return hash('sha256', sealed, 'buffer');
}

/**
 * SHA-256 (base64) of the digests of entries in the order of their keys; null when one is missing. A signature on it proves
 * all of them at once, at a hundredth of the cost of their own signatures. When one entry changes, only that one is hashed
 * again.
 */
export function groupDigest(init: {
  readonly keys: Iterable<string>;
  readonly digest: (key: string) => Uint8Array | undefined;
}): string | null {
  const parts: Uint8Array[] = [];
  for (const key of [...init.keys].sort()) {
    const digest = init.digest(key);
    if (digest === undefined) return null;
    parts.push(hashedPart(key, digest));
  }
  return digestOf(parts);
}

/** Unambiguous, because a key has no zero byte and a digest has a fixed length. */
function hashedPart(key: string, digest: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${key}\0`), digest]);
}

function digestOf(parts: readonly Uint8Array[]): string {
  return hash('sha256', Buffer.concat(parts), 'base64');
}
