import type { Bucket } from '../../shared/bus/bucket.js';
import { rulesPointerKey } from '../../shared/bus/subjects.js';
import { CulvertError } from '../../shared/errors.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { pointerTo, rulesPointerSchema, snapshotKey, type RulesPointer } from '../../shared/wire/rules-pointer.js';
import { openSnapshot } from '../../shared/wire/signed.js';

/** Snapshots that are kept, the one in force included, so that a person can see what was in force before. */
export const keptSnapshots = 50;

/** What `culvert_rules` says is in force. */
export type PublishedRules =
  | { readonly kind: 'none' }
  /** Signed by this controller. */
  | { readonly kind: 'ours'; readonly snapshot: Snapshot }
  /** Signed by somebody else, or damaged. */
  | { readonly kind: 'foreign'; readonly revision: number | null };

export async function readPublishedRules(bucket: Bucket, publicKeyPem: string): Promise<PublishedRules> {
  const pointer = await readPointer(bucket);
  if (pointer === undefined) return { kind: 'none' };
  if (pointer.value === null) return { kind: 'foreign', revision: null };
  const { revision, key } = pointer.value;
  const stored = await bucket.get(key);
  const snapshot = stored === undefined ? undefined : tryOpen(stored.value, publicKeyPem);
  return snapshot?.revision === revision ? { kind: 'ours', snapshot } : { kind: 'foreign', revision };
}

/**
 * Stores the sealed snapshot of a revision that is not in force yet. Nobody looks at it before the pointer moves, so
 * this is also the proof that the server takes a message of this size.
 */
export async function stageSnapshot(bucket: Bucket, revision: number, sealed: Uint8Array): Promise<void> {
  const stored = await bucket.get(snapshotKey(revision));
  if (stored === undefined || Buffer.compare(stored.value, sealed) !== 0)
    await bucket.put(snapshotKey(revision), sealed);
}

/**
 * Publishes the sealed snapshot of a revision: first the snapshot, then the pointer by compare-and-set, so that an
 * agent that follows the pointer always finds what it names. Safe to repeat.
 *
 * `superseded`: another snapshot of ours with this very revision is in force. Agents that have it would take the new
 * content for an attack, so it needs a new revision. Errors: `REVISION_BEHIND`, and those of `Bus`.
 */
export async function publishRules(input: {
  readonly bucket: Bucket;
  readonly revision: number;
  readonly sealed: Uint8Array;
  readonly publicKeyPem: string;
  /** A later revision that is not ours is taken for a forgery and replaced. */
  readonly replacesForeign: boolean;
}): Promise<'published' | 'superseded'> {
  const { bucket, revision, sealed, publicKeyPem, replacesForeign } = input;
  const wanted = pointerTo(revision, sealed);
  const current = await readPointer(bucket);
  const inForce = current?.value ?? null;
  if (inForce !== null && inForce.revision > revision) {
    if (!replacesForeign || (await isOurs(bucket, inForce, publicKeyPem))) throw behind(inForce.revision, revision);
  }
  if (inForce?.revision === revision && inForce.sha256 !== wanted.sha256) {
    if (await isOurs(bucket, inForce, publicKeyPem)) return 'superseded';
  }
  await stageSnapshot(bucket, revision, sealed);
  if (inForce?.revision === revision && inForce.sha256 === wanted.sha256) return 'published';
  const bytes = new TextEncoder().encode(JSON.stringify(wanted));
  if (current === undefined) await bucket.create(rulesPointerKey, bytes);
  else await bucket.update(rulesPointerKey, bytes, current.storeRevision);
  return 'published';
}

/** Whether the pointer names exactly this snapshot. */
export async function isInForce(bucket: Bucket, revision: number, sealed: Uint8Array): Promise<boolean> {
  const current = await readPointer(bucket);
  return current?.value?.sha256 === pointerTo(revision, sealed).sha256;
}

function behind(inStore: number, ours: number): CulvertError {
  return new CulvertError({
    code: 'REVISION_BEHIND',
    message: `the store is at revision ${inStore}, and this controller at ${ours}`,
    hint: 'another controller writes to this NATS: stop one of them',
  });
}

/** Whether what a pointer names is there as it was when the pointer was written, and signed by this controller. */
async function isOurs(bucket: Bucket, pointer: RulesPointer, publicKeyPem: string): Promise<boolean> {
  const stored = await bucket.get(pointer.key);
  if (stored === undefined || pointerTo(pointer.revision, stored.value).sha256 !== pointer.sha256) return false;
  return tryOpen(stored.value, publicKeyPem)?.revision === pointer.revision;
}

/** `value` is null when what is there is no pointer. */
async function readPointer(
  bucket: Bucket,
): Promise<{ readonly value: RulesPointer | null; readonly storeRevision: number } | undefined> {
  const entry = await bucket.get(rulesPointerKey);
  if (entry === undefined) return undefined;
  try {
    const value = rulesPointerSchema.parse(JSON.parse(new TextDecoder().decode(entry.value)));
    return { value, storeRevision: entry.revision };
  } catch {
    return { value: null, storeRevision: entry.revision };
  }
}

/** Deletes all but the newest snapshots. */
export async function pruneSnapshots(bucket: Bucket, revision: number): Promise<void> {
  const revisions = (await bucket.keys({ prefix: 'snapshot' })).map((key) => Number(key.slice('snapshot.'.length)));
  for (const old of revisions.filter((candidate) => candidate <= revision - keptSnapshots)) {
    await bucket.delete(snapshotKey(old));
  }
}

function tryOpen(bytes: Uint8Array, publicKeyPem: string): Snapshot | undefined {
  try {
    return openSnapshot({ bytes, publicKeysPem: [publicKeyPem] });
  } catch {
    return undefined;
  }
}
