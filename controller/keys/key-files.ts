import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, syncDirectoryOf } from '../../shared/private-file.js';
import { isSealed, type KeyVault } from './key-vault.js';

/**
 * The files of a state directory whose keys are the mesh, and what each is for. Not `nats/server.key`, which nats-server reads
 * itself and which is replaced with its certificate.
 */
const keyFiles = [
  ['ca/issuing.pem', 'ca/issuing'],
  ['ca/next-root.pem', 'ca/next-root'],
  ['signing-key.json', 'signing-key'],
  ['nats/keys.json', 'nats/keys'],
  ['ca/root.pem', 'ca/root'],
  ['ca/server-api.pem', 'ca/server-api'],
  ['ca/server-nats.pem', 'ca/server-nats'],
] as const;

export type KeyPurpose = (typeof keyFiles)[number][1];

/**
 * Reads every key, then encrypts those that are still in the clear, if there is a passphrase, and removes what a killed process
 * left of a write. The state directory must be locked. Errors: those of {@link KeyVault}, also for a key that is not needed now:
 * the root's would be missed months later.
 */
export async function sealKeys(o: {
  readonly stateDir: string;
  readonly vault: KeyVault;
  readonly log: Log;
}): Promise<void> {
  const { stateDir, vault, log } = o;
  await removeHalfWritten(stateDir);
  const found = await Promise.all(
    keyFiles.map(async ([name, purpose]) => {
      const path = join(stateDir, name);
      return { name, path, purpose, text: await readKey(vault, path, purpose), stored: await readPrivateFile(path) };
    }),
  );
  if (!vault.isSealing) return;
  const sealed: string[] = [];
  for (const { name, path, purpose, text, stored = '' } of found) {
    if (text === undefined || isSealed(stored)) continue;
    await vault.write(path, purpose, text);
    sealed.push(name);
  }
  if (sealed.length > 0) {
    log.warn(
      { files: sealed },
      'encrypted the keys of the mesh; old blocks of the disk and backups may still have them',
    );
  }
}

/** A change of the passphrase that was broken off leaves files that only the new one opens. */
async function readKey(vault: KeyVault, path: string, purpose: KeyPurpose): Promise<string | undefined> {
  try {
    return await vault.read(path, purpose);
  } catch (cause) {
    if (!(cause instanceof CulvertError) || cause.code !== 'KEY_PASSPHRASE') throw cause;
    const hint =
      'correct --key-passphrase-file; after a change that broke off run culvert-controller keys change again, as before';
    throw new CulvertError({ code: cause.code, message: cause.message, hint, cause });
  }
}

/** Removes the files that `writePrivateFile` had not renamed yet when the process ended. They may have keys in the clear. */
export async function removeHalfWritten(stateDir: string): Promise<void> {
  for (const [name] of keyFiles) {
    const [directory, file] = [dirname(join(stateDir, name)), basename(name)];
    const there = await readdir(directory).catch(() => []);
    const left = there.filter((each) => each.startsWith(`${file}.new-`));
    for (const each of left) await rm(join(directory, each), { force: true });
    if (left.length > 0) await syncDirectoryOf(join(directory, file));
  }
}

/**
 * Writes every key again with another vault, and returns the names of the files. Can be repeated after a crash: what is
 * written already is read with the new vault. The state directory must be locked. Errors: those of {@link KeyVault}; then
 * some files may be written and others not.
 */
export async function changeVault(o: {
  readonly stateDir: string;
  readonly from: KeyVault;
  readonly to: KeyVault;
}): Promise<string[]> {
  const texts: { readonly path: string; readonly name: string; readonly purpose: KeyPurpose; readonly text: string }[] =
    [];
  // All are read before one is written: a wrong passphrase changes nothing.
  for (const [name, purpose] of keyFiles) {
    const path = join(o.stateDir, name);
    const text = await readWithEither(o, path, purpose);
    if (text !== undefined) texts.push({ path, name, purpose, text });
  }
  for (const { path, purpose, text } of texts) await o.to.write(path, purpose, text);
  return texts.map(({ name }) => name);
}

async function readWithEither(
  { from, to }: { readonly from: KeyVault; readonly to: KeyVault },
  path: string,
  purpose: KeyPurpose,
): Promise<string | undefined> {
  try {
    return await from.read(path, purpose);
  } catch (error) {
    if (!(error instanceof CulvertError) || (error.code !== 'KEY_PASSPHRASE' && error.code !== 'KEY_SEALED'))
      throw error;
    return await to.read(path, purpose).catch(() => {
      throw error;
    });
  }
}
