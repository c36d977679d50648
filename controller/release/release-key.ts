import { join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { generateSigningKey, type SigningKey } from '../../shared/pki/signing-key.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/**
 * The Ed25519 key that signs everything that is published: `signing-key.json` (0600) in the state directory, created at
 * the first start. Agents pin its public half when they join, so if it is lost, every agent has to join again.
 * Errors: `STATE_READ`, `STATE_WRITE`, `STATE_CORRUPT`.
 */
export async function openReleaseKey(stateDir: string): Promise<SigningKey> {
  const path = join(stateDir, 'signing-key.json');
  const text = await readPrivateFile(path);
  if (text === undefined) {
    const key = generateSigningKey();
    await writePrivateFile(path, `${JSON.stringify(key, null, 1)}\n`);
    return key;
  }
  try {
    const key = JSON.parse(text) as SigningKey;
    if (typeof key.publicKey === 'string' && typeof key.privateKey === 'string') return key;
  } catch {
    // Reported below, like a file of another shape.
  }
  throw new CulvertError({
    code: 'STATE_CORRUPT',
    message: 'signing-key.json in the state directory cannot be read',
    hint: 'restore it from a backup; without it every agent has to join again',
  });
}
