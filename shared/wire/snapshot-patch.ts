import type { Snapshot } from '../policy/snapshot.js';

/**
 * How one revision comes from another whose entries of lists are the same objects where they did not change: for each
 * list, runs of what is kept, as position and length, and between them what is new. Without a list that both have it is
 * the whole snapshot. Plain data.
 */
export type SnapshotPatch = {
  /** The revision that it is applied to; null: to none. */
  readonly before: number | null;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly lists: Readonly<Record<string, readonly PatchPart[]>>;
};

type PatchPart = { readonly keep: readonly [start: number, length: number] } | { readonly add: readonly unknown[] };

/** `before` null: to somebody who has none. */
export function patchBetween(before: Snapshot | null, after: Snapshot): SnapshotPatch {
  const fields: Record<string, unknown> = {};
  const lists: Record<string, readonly PatchPart[]> = {};
  for (const [name, value] of Object.entries(after)) {
    if (Array.isArray(value)) lists[name] = partsOf(listOf(before, name), value);
    else fields[name] = value;
  }
  return { before: before?.revision ?? null, fields, lists };
}

/**
 * Entries that are kept are the same objects in the result. `before` is what the patch was made from, or its equal;
 * throws RangeError when it is another revision.
 */
export function applyPatch(before: Snapshot | null, { before: base, fields, lists }: SnapshotPatch): Snapshot {
  if (base !== null && base !== before?.revision) {
    throw new RangeError(`a change of revision ${base} came to one that has ${before?.revision ?? 'none'}`);
  }
  const whole: Record<string, unknown> = { ...fields };
  for (const [name, parts] of Object.entries(lists)) {
    const old = listOf(before, name);
    whole[name] = parts.flatMap((part) =>
      'add' in part ? part.add : old.slice(part.keep[0], part.keep[0] + part.keep[1]),
    );
  }
  return whole as unknown as Snapshot;
}

function listOf(snapshot: Snapshot | null, name: string): readonly unknown[] {
  const value = snapshot === null ? undefined : Object.entries(snapshot).find(([field]) => field === name)?.[1];
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}

function partsOf(before: readonly unknown[], after: readonly unknown[]): PatchPart[] {
  const positions = new Map(before.map((entry, position) => [entry, position]));
  const parts: PatchPart[] = [];
  let run: [start: number, length: number] | null = null;
  let added: unknown[] | null = null;
  for (const entry of after) {
    const position = positions.get(entry);
    if (position === undefined) {
      if (added === null) parts.push({ add: (added = []) });
      added.push(entry);
      run = null;
    } else if (run !== null && run[0] + run[1] === position) run[1]++;
    else {
      parts.push({ keep: (run = [position, 1]) });
      added = null;
    }
  }
  return parts;
}
