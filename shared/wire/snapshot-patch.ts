import type { Snapshot } from '../policy/snapshot.js';

/**
 * The difference between two revisions. For each list it holds runs of kept entries, as position and length, and the new
 * entries between them. Entries that did not change must be the same objects in both revisions. Without a base revision it
 * holds the whole snapshot. Plain data.
 */
export type SnapshotPatch = {
  /** The base revision; null: none. */
  readonly before: number | null;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly lists: Readonly<Record<string, readonly PatchPart[]>>;
};

type PatchPart = { readonly keep: readonly [start: number, length: number] } | { readonly add: readonly unknown[] };

/** `before` null: a patch with the whole snapshot. */
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
 * Applies a patch to its base or to an equal copy of it. Kept entries stay the same objects. Throws RangeError when `before`
 * is another revision.
 */
export function applyPatch(before: Snapshot | null, { before: base, fields, lists }: SnapshotPatch): Snapshot {
  if (base !== null && base !== before?.revision) {
    throw new RangeError(`a patch of revision ${base} cannot be applied to ${before?.revision ?? 'no revision'}`);
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
