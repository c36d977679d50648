/** What an entry counts in addition to its octets (RFC 7541 §4.1). */
const entryOverheadBytes = 32;

/** The dynamic table of an HPACK decoder (RFC 7541 §2.3.2, §4): a ring in which the newest entry has index 0. */
export class HpackDynamicTable {
  /** Length is a power of two; grows when entries are small and therefore many. */
  #names: string[] = Array.from({ length: 16 }, () => '');
  #values: string[] = Array.from({ length: 16 }, () => '');
  #oldest = 0;
  #length = 0;
  #sizeBytes = 0;
  #maxBytes: number;

  constructor({ maxBytes }: { readonly maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#length;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  nameAt(index: number): string {
    return this.#names[this.#slotOf(index)] ?? '';
  }

  valueAt(index: number): string {
    return this.#values[this.#slotOf(index)] ?? '';
  }

  /** Evicts what exceeds the limit. An entry larger than the table empties it and is not stored. */
  add(name: string, value: string): void {
    const bytes = name.length + value.length + entryOverheadBytes;
    this.#evictTo(this.#maxBytes - bytes);
    if (bytes > this.#maxBytes) return;
    if (this.#length === this.#names.length) this.#grow();
    const slot = (this.#oldest + this.#length) & (this.#names.length - 1);
    this.#names[slot] = name;
    this.#values[slot] = value;
    this.#length += 1;
    this.#sizeBytes += bytes;
  }

  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #slotOf(index: number): number {
    return (this.#oldest + this.#length - 1 - index) & (this.#names.length - 1);
  }

  #evictTo(bytes: number): void {
    while (this.#length > 0 && this.#sizeBytes > bytes) {
      const slot = this.#oldest;
      this.#sizeBytes -= this.#names[slot]!.length + this.#values[slot]!.length + entryOverheadBytes;
      this.#names[slot] = '';
      this.#values[slot] = '';
      this.#oldest = (slot + 1) & (this.#names.length - 1);
      this.#length -= 1;
    }
  }

  #grow(): void {
    const size = this.#names.length;
    const rotate = (list: string[]): string[] => [
      ...list.slice(this.#oldest),
      ...list.slice(0, this.#oldest),
      ...Array.from({ length: size }, () => ''),
    ];
    this.#names = rotate(this.#names);
    this.#values = rotate(this.#values);
    this.#oldest = 0;
  }
}
