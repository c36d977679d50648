import { join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { generateSigningKey, type SigningKey } from '../../shared/pki/signing-key.js';
import type { KeyPurpose } from '../keys/key-files.js';
import { KeyVault } from '../keys/key-vault.js';

/**
 * The Ed25519 key that signs everything that is published: `signing-key.json` (0600) in the state directory, created at
 * the first start. Agents pin its public half when they join, so if it is lost, every agent has to join again.
 * Errors: `STATE_READ`, `STATE_WRITE`, `STATE_CORRUPT`, and those of `KeyVault`.
 */
export async function openReleaseKey(stateDir: string, vault: KeyVault = KeyVault.plain): Promise<SigningKey> {
  const path = join(stateDir, 'signing-key.json');
  const purpose: KeyPurpose = 'signing-key';
  const text = await vault.read(path, purpose);
  if (text === undefined) {
    const key = generateSigningKey();
    await vault.write(path, purpose, `${JSON.stringify(key, null, 1)}\n`);
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
