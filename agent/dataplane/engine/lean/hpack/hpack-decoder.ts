import { ConnectionViolation } from './connection-violation.js';
import { errorCode } from '../../http2-error-code.js';
import { HpackDynamicTable } from './hpack-dynamic-table.js';
import { decodeHuffman } from './hpack-huffman.js';
import { staticTable } from './hpack-static-table.js';

/** Name, value, name, value…: octets as latin1 text, not validated yet. */
export type DecodedFields = {
  readonly fields: readonly string[];
  /** The limits were exceeded: `fields` is truncated, but the decoder's state is correct. */
  readonly isTooLarge: boolean;
};

/** What a field counts in a header list in addition to its octets (RFC 9113 §6.5.2). */
const fieldOverheadBytes = 32;
/**
 * Integers are lengths and indexes. Four bytes after the prefix express 2^28, far above any allowed value (RFC 7541
 * §5.1).
 */
const longestInteger = 4;

/**
 * HPACK (RFC 7541) decoder of one connection. It must decode every block, in order and completely, even for streams
 * that are ignored. Throws a {@link ConnectionViolation} with COMPRESSION_ERROR.
 */
export class HpackDecoder {
  readonly #table: HpackDynamicTable;
  readonly #maxTableBytes: number;
  readonly #maxListBytes: number;
  readonly #maxFields: number;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  /** `maxTableBytes`: the value of our SETTINGS_HEADER_TABLE_SIZE. The other two limit one header list. */
  constructor(init: { readonly maxTableBytes: number; readonly maxListBytes: number; readonly maxFields: number }) {
    this.#maxTableBytes = init.maxTableBytes;
    this.#maxListBytes = init.maxListBytes;
    this.#maxFields = init.maxFields;
    this.#table = new HpackDynamicTable({ maxBytes: init.maxTableBytes });
  }

  get tableBytes(): number {
    return this.#table.sizeBytes;
  }

  decode(block: Buffer): DecodedFields {
    this.#bytes = block;
    this.#at = 0;
    const fields: string[] = [];
    let listBytes = 0;
    let isTooLarge = false;
    let mayResize = true;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      if ((first & 0xe0) === 0x20) {
        if (!mayResize) throw broken('a table size update after a field');
        this.#resize();
        continue;
      }
      mayResize = false;
      const { name, value } = this.#field(first);
      listBytes += name.length + value.length + fieldOverheadBytes;
      isTooLarge ||= listBytes > this.#maxListBytes || fields.length >= 2 * this.#maxFields;
      if (!isTooLarge) fields.push(name, value);
    }
    this.#bytes = noBytes;
    return { fields, isTooLarge };
  }

  #field(first: number): { readonly name: string; readonly value: string } {
    if (first >= 0x80) return this.#entry(this.#integer(0x7f));
    const isIndexed = first >= 0x40;
    // 0000 is "without indexing", 0001 "never indexed": the same for a decoder that forwards nothing.
    const index = this.#integer(isIndexed ? 0x3f : 0x0f);
    const name = index === 0 ? this.#text() : this.#entry(index).name;
    const value = this.#text();
    if (isIndexed) this.#table.add(name, value);
    return { name, value };
  }

  #entry(index: number): { readonly name: string; readonly value: string } {
    if (index === 0) throw broken('index 0');
    if (index <= staticTable.size) return { name: staticTable.nameAt(index), value: staticTable.valueAt(index) };
    const at = index - staticTable.size - 1;
    if (at >= this.#table.length) throw broken(`index ${index} beyond the table`);
    return { name: this.#table.nameAt(at), value: this.#table.valueAt(at) };
  }

  #resize(): void {
    const bytes = this.#integer(0x1f);
    if (bytes > this.#maxTableBytes) throw broken(`a table of ${bytes} bytes, limit ${this.#maxTableBytes}`);
    this.#table.resize(bytes);
  }

  /** RFC 7541 §5.2. */
  #text(): string {
    if (this.#at >= this.#bytes.length) throw broken('a block that ends within a field');
    const isHuffman = this.#bytes[this.#at]! >= 0x80;
    const length = this.#integer(0x7f);
    const start = this.#at;
    const end = start + length;
    if (end > this.#bytes.length) throw broken('a string that is longer than its block');
    this.#at = end;
    return isHuffman ? decodeHuffman(this.#bytes, start, end) : this.#bytes.toString('latin1', start, end);
  }

  /** RFC 7541 §5.1; `mask`: the bits of the prefix. */
  #integer(mask: number): number {
    let value = this.#bytes[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; shift < 7 * longestInteger; shift += 7) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw broken('a block that ends within an integer');
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw broken('an integer that is too large');
  }
}

const noBytes = Buffer.alloc(0);

function broken(detail: string): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.compressionError, detail: `HPACK: ${detail}` });
}
