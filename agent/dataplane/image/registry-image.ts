import type { IpAddress } from '../../../shared/address.js';
import { registryKey, type RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { addressTerm, keyTerm, labelTerm, vipTerm } from './registry-terms.js';

/**
 * The registry in memory that all workers share: the entries as text, and a table that finds them by term (a key, an
 * address, a VIP, or a label within a namespace). Immutable, and built once for all workers: an object per workload in
 * each worker would take more memory than everything else. Read by `ImageReader`.
 */
export type RegistryImage = {
  readonly entries: number;
  /** Number of slots in the table; a power of two. */
  readonly slots: number;
  /** JSON of one entry after another, UTF-8. */
  readonly text: SharedArrayBuffer;
  /**
   * Int32: the end of each entry in the text; then the slots, three numbers each: the term, its last posting counted
   * from 1 (0: the slot is free) and how many it has; then the postings, two numbers each: the entry, and the posting
   * before it of the same term or 0.
   */
  readonly words: SharedArrayBuffer;
};

/** `image` replaces everything known (null: it stays). Then removals (registry keys) and upserts apply. */
export type RegistryChange = {
  readonly image: RegistryImage | null;
  readonly upserts: readonly RegistryEntry[];
  readonly removals: readonly string[];
  /** As in `RegistryMessage`; absent: as before. */
  readonly unreadable?: ReadonlyMap<IpAddress, string>;
  /** Workloads that became ready with this change, or not long before it where a thread gets everything; absent: none. */
  readonly newlyReady?: readonly NewlyReady[];
};

/** A workload that became ready, and how long ago. Threads have clocks of their own, so this is no point in time. */
export type NewlyReady = { readonly workload: WorkloadName; readonly agoMs: number };

export const wordsPerSlot = 3;
export const wordsPerPosting = 2;

/** `entries`: each key once, in any order. */
export function buildRegistryImage(entries: readonly RegistryEntry[]): RegistryImage {
  const terms: number[] = [];
  const owners: number[] = [];
  const lines: string[] = [];
  let textBytes = 0;
  for (const [number, entry] of entries.entries()) {
    const line = JSON.stringify(entry);
    lines.push(line);
    textBytes += Buffer.byteLength(line);
    for (const term of termsOf(entry)) {
      terms.push(term);
      owners.push(number);
    }
  }
  // At most half of the slots are taken, so that looking up a missing term ends soon.
  const slots = 2 ** Math.ceil(Math.log2(Math.max(terms.length, 1) * 2));
  const text = new SharedArrayBuffer(textBytes);
  const words = new SharedArrayBuffer(4 * (lines.length + slots * wordsPerSlot + terms.length * wordsPerPosting));
  const table = new Int32Array(words);
  writeLines(lines, Buffer.from(text), table);
  writePostings(terms, owners, table.subarray(lines.length), slots);
  return { entries: lines.length, slots, text, words };
}

function termsOf(entry: RegistryEntry): number[] {
  const key = keyTerm(registryKey(entry));
  if (entry.kind === 'service') return [key, ...entry.vips.map(vipTerm)];
  const labels = Object.entries(entry.labels).map(([label, value]) => labelTerm(entry.namespace, label, value));
  return [key, ...entry.addresses.map(addressTerm), ...labels];
}

function writeLines(lines: readonly string[], text: Buffer, ends: Int32Array): void {
  let end = 0;
  for (const [number, line] of lines.entries()) {
    end += text.write(line, end);
    ends[number] = end;
  }
}

function writePostings(terms: readonly number[], owners: readonly number[], table: Int32Array, slots: number): void {
  const mask = slots - 1;
  const postings = slots * wordsPerSlot;
  for (let at = 0; at < terms.length; at++) {
    const term = terms[at] ?? 0;
    let slot = term & mask;
    while (table[slot * wordsPerSlot + 1] !== 0 && table[slot * wordsPerSlot] !== term) slot = (slot + 1) & mask;
    const first = slot * wordsPerSlot;
    table[postings + at * wordsPerPosting] = owners[at] ?? 0;
    table[postings + at * wordsPerPosting + 1] = table[first + 1] ?? 0;
    table[first] = term;
    table[first + 1] = at + 1;
    table[first + 2] = (table[first + 2] ?? 0) + 1;
  }
}
