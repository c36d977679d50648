import { staticTable } from './hpack-static-table.js';

export type HeaderFields = readonly (readonly [name: string, value: string])[];

/** `001` and a size of 0: our dynamic table stays empty, whatever the peer's SETTINGS allow (RFC 7541 §6.3). */
const emptyTable = 0x20;

/**
 * HPACK (RFC 7541) encoder of one connection: the static table and literals, without Huffman coding or a dynamic table.
 * A CONNECT takes about 200 bytes once per connection; what a table would save is not worth its state.
 */
export class HpackEncoder {
  #isFirst = true;

  /** The caller must pass names in lower case, pseudo-header fields first, and texts of latin1 octets. */
  encode(fields: HeaderFields): Buffer {
    let most = 1;
    for (const [name, value] of fields) most += 12 + name.length + value.length;
    const block = Buffer.allocUnsafe(most);
    let at = 0;
    if (this.#isFirst) {
      this.#isFirst = false;
      block[at++] = emptyTable;
    }
    for (const [name, value] of fields) at = writeField(block, at, name, value);
    return block.subarray(0, at);
  }
}

function writeField(block: Buffer, start: number, name: string, value: string): number {
  const whole = staticTable.indexOfField(name, value);
  if (whole > 0) return writeInteger(block, start, 0x80, 0x7f, whole);
  const nameIndex = staticTable.indexOfName(name);
  // Literal without indexing (RFC 7541 §6.2.2).
  let at = writeInteger(block, start, 0, 0x0f, nameIndex);
  if (nameIndex === 0) at = writeText(block, at, name);
  at = writeText(block, at, value);
  return at;
}

function writeText(block: Buffer, start: number, text: string): number {
  const at = writeInteger(block, start, 0, 0x7f, text.length);
  return at + block.write(text, at, 'latin1');
}

/** RFC 7541 §5.1; `pattern`: the bits before the prefix; `mask`: those of the prefix. */
function writeInteger(block: Buffer, start: number, pattern: number, mask: number, value: number): number {
  let at = start;
  if (value < mask) {
    block[at++] = pattern | value;
    return at;
  }
  block[at++] = pattern | mask;
  let rest = value - mask;
  while (rest >= 0x80) {
    block[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  block[at++] = rest;
  return at;
}
