import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { CulvertError, describeError } from '../../shared/errors.js';
import { certificateHash } from '../../shared/pki/certificate-info.js';
import { exportPkcs12, importPkcs12 } from './x509/pkcs12.js';
import type { ControllerSettings } from '../config/settings.js';
import { fixTrustDomain } from '../config/trust-domain-file.js';
import { lockState } from '../store/state-lock.js';
import { CaFiles } from './ca-files.js';
import { adoptIssuing, adoptRoot, rotateRoot, type RotationStep } from './root-rotation.js';

type Place = Pick<ControllerSettings, 'stateDir' | 'trustDomain'>;

/**
 * The commands `culvert-controller ca …`, which work on the CA on disk. Each returns the line to print. Commands that
 * change the CA need the controller stopped, else they throw `STATE_LOCKED`.
 */
export async function exportCa(place: Place, out: string, passwordFile: string): Promise<string> {
  const files = new CaFiles(place);
  const authority = (await files.readAuthority('root')) ?? (await files.readAuthority('issuing'));
  if (authority === undefined) {
    throw new CulvertError({
      code: 'CA_MISSING',
      message: 'this state directory has no CA yet',
      hint: 'correct --state-dir, or start the controller once',
    });
  }
  const pkcs12 = exportPkcs12({ authority, password: await readPassword(passwordFile) });
  try {
    await writeFile(out, pkcs12, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    throw new CulvertError({
      code: 'FILE_WRITE',
      message: `cannot write ${out}: ${describeError(cause)}`,
      hint: 'name a file that does not exist yet',
      cause,
    });
  }
  return `wrote the CA ${certificateHash(authority.certificatePem)} to ${out}: with the file and the password anyone can issue certificates of this mesh`;
}

/** `replaces`: allows replacing an existing CA, which stays trusted until its certificates have expired. */
export async function importCa(
  place: Place,
  source: { readonly file: string; readonly passwordFile: string; readonly replaces: boolean },
): Promise<string> {
  const pkcs12 = await readNamed(source.file);
  const authority = await importPkcs12({ pkcs12, password: await readPassword(source.passwordFile) });
  return withLock(place, async (files) => {
    if ((await files.readAuthority('issuing')) !== undefined && !source.replaces) {
      throw new CulvertError({
        code: 'CA_EXISTS',
        message: 'this state directory already has a CA',
        hint: 'add --replace to sign with the imported CA from now on; the old one stays trusted meanwhile',
      });
    }
    const nowMs = Date.now();
    const isRoot = authority.certificatePem === authority.rootPem;
    if (isRoot) await adoptRoot({ files, root: authority, trustDomain: place.trustDomain, nowMs });
    else await adoptIssuing({ files, issuing: authority, nowMs });
    return `imported the ${isRoot ? 'root' : 'issuing'} CA ${certificateHash(authority.certificatePem)}`;
  });
}

export async function rotateCa(place: Place, step: RotationStep): Promise<string> {
  return withLock(place, async (files) => {
    await rotateRoot({ files, step, trustDomain: place.trustDomain, nowMs: Date.now() });
    return {
      prepare:
        'prepared a new root; start the controller, and run the step activate when every agent has renewed its certificates',
      activate: 'the new root signs from now on; run the step finish when every agent has renewed its certificates',
      finish: 'the old root is no longer trusted',
    }[step];
  });
}

async function withLock(place: Place, task: (files: CaFiles) => Promise<string>): Promise<string> {
  await mkdir(place.stateDir, { recursive: true, mode: 0o700 });
  await assertOwner(place.stateDir);
  const unlock = await lockState(place.stateDir);
  try {
    await fixTrustDomain(place.stateDir, place.trustDomain);
    return await task(new CaFiles(place));
  } finally {
    await unlock();
  }
}

/** Refuses to write as root into another user's directory: the controller could not read those files at its next start. */
async function assertOwner(stateDir: string): Promise<void> {
  const { uid } = await stat(stateDir);
  if (process.getuid?.() !== 0 || uid === 0) return;
  throw new CulvertError({
    code: 'WRONG_USER',
    message: `the state directory ${stateDir} belongs to another user (uid ${uid})`,
    hint: `run the command as that user, so that the controller can read the files: sudo -u '#${uid}' culvert-controller ca …`,
  });
}

/** Reads only the first line, so that an editor's newline at the end does no harm. */
async function readPassword(path: string): Promise<string> {
  const password = (await readNamed(path)).toString('utf8').split(/\r?\n/, 1)[0] ?? '';
  if (password !== '') return password;
  throw new CulvertError({
    code: 'PASSWORD_EMPTY',
    message: `the password file ${path} has an empty first line`,
    hint: 'write the password into the first line',
  });
}

async function readNamed(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new CulvertError({
      code: 'FILE_READ',
      message: `cannot read ${path}: ${describeError(cause)}`,
      hint: 'check the path and the permissions',
      cause,
    });
  }
}
