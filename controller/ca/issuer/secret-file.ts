import { describeError } from '../../../shared/errors.js';
import { readNamedFile } from '../../../shared/named-file.js';
import { credentialPath } from '../../keys/key-vault.js';
import { issuerError } from './issuer-error.js';

const maxBytes = 64 * 1024;
const credentialPrefix = 'credential:';

/**
 * The first line of a file with a token, or of a credential of the systemd unit (`credential:NAME`). Read each time that it is
 * needed, because a rotation only replaces the file. Errors: `ISSUER_CREDENTIAL`.
 */
export async function readSecret(source: string | null): Promise<string> {
  if (source === null) throw unusable('--issuer-credential-file is missing');
  const path = pathOf(source);
  const file = await readNamedFile(path, { maxBytes });
  if (!file.isRead) throw unusable(`cannot read ${path}: ${file.problem}`, file.cause);
  const secret = file.bytes.toString('utf8').split(/\r?\n/, 1)[0]?.trim() ?? '';
  // It goes into a header.
  if (/^[\x21-\x7e]+$/.test(secret)) return secret;
  throw unusable(`the first line of ${path} is ${secret === '' ? 'empty' : 'no token'}`);
}

function pathOf(source: string): string {
  if (!source.startsWith(credentialPrefix)) return source;
  try {
    return credentialPath(source.slice(credentialPrefix.length));
  } catch (cause) {
    throw unusable(describeError(cause), cause);
  }
}

function unusable(message: string, cause?: unknown): Error {
  return issuerError(
    'ISSUER_CREDENTIAL',
    `the credential for the issuer cannot be used: ${message}`,
    'set --issuer-credential-file to a file that the controller can read, whose first line is the token',
    cause,
  );
}
