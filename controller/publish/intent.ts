import { z } from 'zod';
import { inTurns } from '../../shared/in-turns.js';
import type { Bucket } from '../../shared/bus/bucket.js';
import { isInventoryDocument, type StoredResource } from '../inventory/stored-resource.js';
import type { Commit } from '../release/committed-state.js';

/**
 * The intent of a change, in the bucket `culvert_config`: written before any other key and removed after all of them.
 * Together with the journal it makes a change atomic. At the next start, a change in the journal is completed, and one that
 * is not is undone. When the journal was lost, the change is completed from the intent.
 *
 * The intent includes what the change does to workloads and services. Large changes take several keys, `_intent.<part>`.
 * They are valid only with the head, `_intent.head`, which is written last. All changes use the same keys, because a
 * deleted key leaves a marker behind in the store.
 */
const headKey = '_intent.head';
/** Below nats-server's default of 1 MiB per message. A single document has at most 1 MiB. */
const partBytes = 512 * 1024;

const headSchema = z.object({
  revision: z.number().int().min(1),
  createdAt: z.string(),
  createdBy: z.string(),
  message: z.string().exactOptional(),
  rollbackOf: z.number().int().exactOptional(),
  deletes: z.array(z.string()),
  parts: z.number().int().nonnegative(),
});

const partSchema = z.object({ revision: z.number(), puts: z.array(z.custom<StoredResource>()) });

export function isIntentKey(key: string): boolean {
  return key.startsWith('_intent.');
}

export async function writeIntent(bucket: Bucket, commit: Commit): Promise<void> {
  const parts = await inTurns(splittingParts([...commit.puts, ...(commit.inventory?.puts ?? [])]));
  for (const [index, part] of parts.entries()) {
    const text = `{"revision":${commit.revision},"puts":[${part.join(',')}]}`;
    await bucket.put(partKey(index), new TextEncoder().encode(text));
  }
  const { puts: _, inventory, ...head } = commit;
  const deletes = [...commit.deletes, ...(inventory?.deletes ?? [])];
  await bucket.put(headKey, encode({ ...head, deletes, parts: parts.length }));
}

/** The announced change; undefined when there is none, or it is incomplete. */
export async function readIntent(bucket: Bucket): Promise<Commit | undefined> {
  const entry = await bucket.get(headKey);
  const head = entry === undefined ? undefined : headSchema.safeParse(decode(entry.value));
  if (head?.success !== true) return undefined;
  const { parts, ...commit } = head.data;
  const puts: StoredResource[] = [];
  for (let index = 0; index < parts; index++) {
    const entry = await bucket.get(partKey(index));
    const part = entry === undefined ? undefined : partSchema.safeParse(decode(entry.value)).data;
    // The part is from a later change that stopped before its head was written.
    if (part?.revision !== commit.revision) return undefined;
    puts.push(...part.puts);
  }
  const [rules, inventory] = [false, true].map((isOfInventory) => ({
    puts: puts.filter(({ key }) => isInventoryDocument(key) === isOfInventory),
    deletes: commit.deletes.filter((key) => isInventoryDocument(key) === isOfInventory),
  }));
  const hasInventory = inventory !== undefined && inventory.puts.length + inventory.deletes.length > 0;
  return { ...commit, puts: [], ...rules, ...(hasInventory ? { inventory } : {}) };
}

/** Deletes the head first: without it the parts are ignored. */
export async function removeIntent(bucket: Bucket): Promise<void> {
  await bucket.delete(headKey);
  for (const key of await bucket.keys({ prefix: '_intent' })) await bucket.delete(key);
}

/** Each part is a list of documents as JSON. */
function* splittingParts(puts: readonly StoredResource[]): Generator<void, string[][]> {
  const parts: string[][] = [];
  let room = 0;
  for (const stored of puts) {
    const text = JSON.stringify(stored);
    const size = Buffer.byteLength(text);
    if (size > room || parts.length === 0) {
      parts.push([]);
      room = partBytes;
    }
    parts.at(-1)?.push(text);
    room -= size;
    yield;
  }
  return parts;
}

function partKey(index: number): string {
  return `_intent.${index}`;
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function decode(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
