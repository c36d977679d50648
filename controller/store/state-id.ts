import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

const fileName = 'state-id';

/**
 * What tells one state of a controller from every other: a random text, which stays when its root is rotated, and which a backup
 * has too. Null: this directory has none yet. Errors: `STATE_READ`.
 */
export async function readStateId(stateDir: string): Promise<string | null> {
  return (await readPrivateFile(join(stateDir, fileName)))?.trim() ?? null;
}

/** As {@link readStateId}, and makes one where it is missing: when no other process writes there. Errors: `STATE_WRITE` too. */
export async function ensureStateId(stateDir: string): Promise<string> {
  const known = await readStateId(stateDir);
  if (known !== null && known !== '') return known;
  const id = randomUUID();
  await writePrivateFile(join(stateDir, fileName), `${id}\n`);
  return id;
}
