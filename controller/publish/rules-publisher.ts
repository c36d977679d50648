import type { Bucket } from '../../shared/bus/bucket.js';
import { rulesPointerKey } from '../../shared/bus/subjects.js';
import { CulvertError } from '../../shared/errors.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { pointerTo, rulesPointerSchema, snapshotKey, type RulesPointer } from '../../shared/wire/rules-pointer.js';
import { openSnapshot } from '../../shared/wire/signed.js';

/** Number of snapshots to keep, including the one in force, so that earlier rules can be inspected. */
const keptSnapshots = 50;

/** The rules in force according to `culvert_rules`. */
export type PublishedRules =
  | { readonly kind: 'none' }
  /** Signed by this controller. */
  | { readonly kind: 'ours'; readonly snapshot: Snapshot }
  /** Not signed by this controller, or damaged. */
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
 * Stores the sealed snapshot of a revision that is not in force yet. Agents ignore it until the pointer moves, so this also
 * tests, without risk, that the server accepts a message of this size.
 */
export async function stageSnapshot(bucket: Bucket, revision: number, sealed: Uint8Array): Promise<void> {
  const stored = await bucket.get(snapshotKey(revision));
  if (stored === undefined || Buffer.compare(stored.value, sealed) !== 0)
    await bucket.put(snapshotKey(revision), sealed);
}

/**
 * Publishes the sealed snapshot of a revision: first the snapshot, then the pointer by compare-and-set, so that an agent
 * always finds the snapshot that the pointer names. Safe to repeat.
 *
 * Returns `superseded` when another snapshot of ours with the same revision is in force. Agents that have it would treat
 * other content as an attack, so the rules need a new revision. Errors: `REVISION_BEHIND`, and those of `Bus`.
 */
export async function publishRules(init: {
  readonly bucket: Bucket;
  readonly revision: number;
  readonly sealed: Uint8Array;
  readonly publicKeyPem: string;
  /** Replaces a later revision that is not ours, as a forgery. */
  readonly replacesForeign: boolean;
}): Promise<'published' | 'superseded'> {
  const { bucket, revision, sealed, publicKeyPem, replacesForeign } = init;
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

/** Whether the pointer names this snapshot. */
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

/** Whether the pointer's snapshot is unchanged since the pointer was written, and signed by this controller. */
async function isOurs(bucket: Bucket, pointer: RulesPointer, publicKeyPem: string): Promise<boolean> {
  const stored = await bucket.get(pointer.key);
  if (stored === undefined || pointerTo(pointer.revision, stored.value).sha256 !== pointer.sha256) return false;
  return tryOpen(stored.value, publicKeyPem)?.revision === pointer.revision;
}

/** `value` is null when the stored value is not a pointer. */
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
