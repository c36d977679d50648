/** One element of DER (X.690): its tag byte and its contents. */
export type DerElement = { readonly tag: number; readonly contents: Uint8Array };

/** Tag bytes that certificates use (X.690, section 8.1.2). */
export const derTag = {
  boolean: 0x01,
  octetString: 0x04,
  oid: 0x06,
  sequence: 0x30,
  version: 0xa0,
  extensions: 0xa3,
} as const;

/**
 * The consecutive elements in `bytes`, which they must fill exactly. Throws a RangeError for anything but
 * definite-length DER with single-byte tags. Elements are views of `bytes`; nothing is copied.
 */
export function readDerElements(bytes: Uint8Array): DerElement[] {
  const elements: DerElement[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const tag = byteAt(bytes, offset);
    if ((tag & 0x1f) === 0x1f) throw new RangeError('DER tag of several bytes');
    const { length, start } = readLength(bytes, offset + 1);
    if (start + length > bytes.length) throw new RangeError('DER element longer than its parent');
    elements.push({ tag, contents: bytes.subarray(start, start + length) });
    offset = start + length;
  }
  return elements;
}

/** The children of the only element in `bytes`, which must have this tag. */
export function readDerChildren(bytes: Uint8Array, tag: number): DerElement[] {
  const [element, ...rest] = readDerElements(bytes);
  if (element === undefined || element.tag !== tag || rest.length > 0) throw new RangeError('unexpected DER element');
  return readDerElements(element.contents);
}

function readLength(bytes: Uint8Array, offset: number): { length: number; start: number } {
  const first = byteAt(bytes, offset);
  if (first < 0x80) return { length: first, start: offset + 1 };
  const size = first & 0x7f;
  if (size === 0 || size > 4) throw new RangeError('DER length that is indefinite or too large');
  let length = 0;
  for (let index = 1; index <= size; index++) length = length * 256 + byteAt(bytes, offset + index);
  return { length, start: offset + 1 + size };
}

function byteAt(bytes: Uint8Array, offset: number): number {
  const byte = bytes[offset];
  if (byte === undefined) throw new RangeError('DER ends too early');
  return byte;
}
