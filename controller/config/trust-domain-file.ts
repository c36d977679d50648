import { join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { isTrustDomain } from '../../shared/identity.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/**
 * Stores the trust domain at the first start, because every certificate and policy carries it. Throws CulvertError
 * `CONFIG_INVALID` when it is malformed or differs from the stored one.
 */
export async function fixTrustDomain(stateDir: string, trustDomain: string): Promise<void> {
  if (!isTrustDomain(trustDomain)) {
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `--trust-domain: "${trustDomain}" is not a trust domain`,
      hint: 'use lower-case letters, digits, "-" and ".", such as culvert.local',
    });
  }
  const path = join(stateDir, 'trust-domain');
  const known = (await readPrivateFile(path))?.trim();
  if (known === undefined) return writePrivateFile(path, `${trustDomain}\n`);
  if (known === trustDomain) return;
  throw new CulvertError({
    code: 'CONFIG_INVALID',
    message: `--trust-domain is ${trustDomain}, but this state directory belongs to ${known}`,
    hint: `set it to ${known}, or start with an empty --state-dir`,
  });
}
