import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { promisify } from 'node:util';
import { CulvertError } from '../../shared/errors.js';
import { readNamedFile } from '../../shared/named-file.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/** 64 MiB and about 0.2 s for each guess of the passphrase (RFC 7914). */
const cost = { N: 2 ** 16, r: 8, p: 1, maxmem: 128 * 1024 ** 2 } as const;
const [saltBytes, nonceBytes, tagBytes, keyBytes] = [16, 12, 16, 32];
const firstLine = 'culvert sealed key 1';
const maxFileBytes = 64 * 1024;
const minPassphraseLength = 12;
const credentialPrefix = 'credential:';

const derive = promisify<string, Buffer, number, typeof cost, Buffer>(scrypt);

/**
 * Private keys on disk, encrypted with AES-256-GCM under a passphrase, or in the clear where there is none. What a file is for is
 * authenticated with it, so one cannot take the place of another. Each write has a new nonce.
 *
 * Errors when reading: `KEY_SEALED` (encrypted, and there is no passphrase), `KEY_PASSPHRASE` (another passphrase, or damaged),
 * and those of `readPrivateFile`.
 */
export class KeyVault {
  /** Reads and writes keys in the clear. */
  static readonly plain = new KeyVault(null);

  readonly #passphrase: string | null;
  readonly #salt = randomBytes(saltBytes);
  /** By salt: files that were written together share one. */
  readonly #keys = new Map<string, Promise<Buffer>>();

  private constructor(passphrase: string | null) {
    this.#passphrase = passphrase;
  }

  /**
   * `source`: a file whose first line is the passphrase, or `credential:NAME` for a credential of the systemd unit; null: none.
   * A file in the state directory would be in each backup with the keys. Throws CulvertError `KEY_PASSPHRASE`.
   */
  static async open(source: string | null, { stateDir }: { readonly stateDir: string }): Promise<KeyVault> {
    if (source === null) return KeyVault.plain;
    if (await isBelow(stateDir, source)) throw unusable(`${source} is in the state directory, with what it protects`);
    return new KeyVault(await readPassphrase(source));
  }

  get isSealing(): boolean {
    return this.#passphrase !== null;
  }

  /** `purpose`: the same as when it was written. Undefined: there is no such file. A file in the clear is read as it is. */
  async read(path: string, purpose: string): Promise<string | undefined> {
    const text = await readPrivateFile(path);
    return text === undefined || !isSealed(text) ? text : this.#unseal(text, path, purpose);
  }

  async write(path: string, purpose: string, text: string): Promise<void> {
    await writePrivateFile(path, this.#passphrase === null ? text : await this.#seal(text, purpose));
  }

  async #seal(text: string, purpose: string): Promise<string> {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', await this.#key(this.#salt), nonce).setAAD(Buffer.from(purpose));
    const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return `${firstLine}\n${Buffer.concat([this.#salt, nonce, cipher.getAuthTag(), body]).toString('base64')}\n`;
  }

  async #unseal(sealed: string, path: string, purpose: string): Promise<string> {
    if (this.#passphrase === null) {
      throw new CulvertError({
        code: 'KEY_SEALED',
        message: `${path} is encrypted`,
        hint: 'name the file with the passphrase: --key-passphrase-file',
      });
    }
    const bytes = Buffer.from(sealed.slice(firstLine.length), 'base64');
    const [salt, nonce, tag] = [0, saltBytes, saltBytes + nonceBytes].map((start, index) =>
      bytes.subarray(start, start + ([saltBytes, nonceBytes, tagBytes][index] ?? 0)),
    );
    try {
      if (salt === undefined || nonce === undefined || tag?.length !== tagBytes) throw new Error('it is cut short');
      const decipher = createDecipheriv('aes-256-gcm', await this.#key(salt), nonce, { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(purpose)).setAuthTag(tag);
      const body = bytes.subarray(saltBytes + nonceBytes + tagBytes);
      return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8');
    } catch (cause) {
      throw new CulvertError({
        code: 'KEY_PASSPHRASE',
        message: `${path} cannot be decrypted: the passphrase is another one, or the file is damaged`,
        hint: 'correct --key-passphrase-file, or restore the file from a backup',
        cause,
      });
    }
  }

  #key(salt: Buffer): Promise<Buffer> {
    const id = salt.toString('hex');
    const known = this.#keys.get(id) ?? derive(this.#passphrase ?? '', salt, keyBytes, cost);
    this.#keys.set(id, known);
    return known;
  }
}

/** Whether the text of a file is encrypted. */
export function isSealed(text: string): boolean {
  return text.startsWith(`${firstLine}\n`);
}

async function readPassphrase(source: string): Promise<string> {
  const path = source.startsWith(credentialPrefix) ? credentialPath(source.slice(credentialPrefix.length)) : source;
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (!file.isRead) throw unusable(`cannot read ${path}: ${file.problem}`, file.cause);
  const passphrase = file.bytes.toString('utf8').split(/\r?\n/, 1)[0] ?? '';
  if (passphrase.length >= minPassphraseLength) return passphrase;
  throw unusable(`the first line of ${path} has fewer than ${minPassphraseLength} characters`);
}

/** Both where their links lead. What is not there is no problem of this check. */
async function isBelow(directory: string, path: string): Promise<boolean> {
  const [above, file] = await Promise.all([directory, path].map((each) => realpath(each).catch(() => null)));
  return typeof above === 'string' && typeof file === 'string' && file.startsWith(join(above, sep));
}

/** The file of a credential of the systemd unit. Throws CulvertError `KEY_PASSPHRASE`. */
export function credentialPath(name: string): string {
  const directory = process.env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined) throw unusable('this process has no credentials of systemd ($CREDENTIALS_DIRECTORY)');
  if (/^[\w.-]+$/.test(name) && !/^\.+$/.test(name)) return join(directory, name);
  throw unusable(`"${name}" is not the name of a credential`);
}

function unusable(message: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'KEY_PASSPHRASE',
    message: `the passphrase for the keys cannot be used: ${message}`,
    hint: 'set --key-passphrase-file to a file whose first line is the passphrase, or to credential:NAME in a systemd unit',
    cause,
  });
}
