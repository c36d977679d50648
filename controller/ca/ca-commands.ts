import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError, describeError } from '../../shared/errors.js';
import { certificateHash } from '../../shared/pki/certificate-info.js';
import { exportPkcs12, importPkcs12 } from './x509/pkcs12.js';
import type { ControllerSettings } from '../config/settings.js';
import { fixTrustDomain } from '../config/trust-domain-file.js';
import { auditDirectory, LocalRequests, type LocalCommand } from '../audit-log/local-requests.js';
import { lockState } from '../store/state-lock.js';
import { CaFiles } from './ca-files.js';
import { adoptAuthority, isRoot, provenIssuer, rotateRoot, type RotationStep } from './root-rotation.js';
import { serverNamesOf } from './server-names.js';
import { ConfirmationFile, type TrustConfirmation } from './rotation-confirmations.js';
import { notTrusting } from './unconfirmed.js';
import type { CertificateAuthority } from './x509/certificate-authority.js';
import { readNamedFile } from '../../shared/named-file.js';
import { makeStateDirectory, readPrivateFile } from '../../shared/private-file.js';

type Place = Pick<ControllerSettings, 'stateDir' | 'trustDomain'> & Partial<Pick<ControllerSettings, 'advertise'>>;

/** More than a CA with its chain and a password have. */
const maxFileBytes = 1024 * 1024;

/**
 * The commands `culvert-controller ca …`, which work on the CA on disk. Each returns the line to print. Commands that
 * change the CA need the controller stopped, else they throw `STATE_LOCKED`.
 */
export async function exportCa(place: Place, out: string, passwordFile: string): Promise<string> {
  const files = new CaFiles(place);
  // Before anything is written, also into the audit log: the path may be a wrong one.
  const authority = (await files.readAuthority('root')) ?? (await files.readAuthority('issuing'));
  if (authority === undefined) {
    throw new CulvertError({
      code: 'CA_MISSING',
      message: 'this state directory has no CA yet',
      hint: 'correct --state-dir, or start the controller once',
    });
  }
  await assertOwner(place.stateDir);
  return audited(place, { action: 'ca.export' }, () => exporting(authority, out, passwordFile));
}

async function exporting(authority: CertificateAuthority, out: string, passwordFile: string): Promise<string> {
  const pkcs12 = exportPkcs12({ authority, password: await readPassword(passwordFile) });
  try {
    await writeFile(out, pkcs12, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new CulvertError({
      code: 'FILE_WRITE',
      message: exists ? `the file ${out} exists` : `cannot write ${out}: ${describeError(cause)}`,
      hint: exists ? 'name a new file after --out, or remove this one' : 'check the path after --out, and its disk',
      cause,
    });
  }
  return `wrote the CA ${certificateHash(authority.certificatePem)} to ${out}: with the file and the password anyone can issue certificates of this mesh`;
}

/**
 * `replaces`: allows replacing an existing CA, which stays trusted until its certificates have expired. Where nodes have not
 * learned to trust the imported root yet, the import only prepares it, as `rotate prepare` does; `isForced`: not so.
 */
export async function importCa(
  place: Place,
  source: {
    readonly file: string;
    readonly passwordFile: string;
    readonly replaces: boolean;
    readonly isForced?: boolean;
  },
): Promise<string> {
  const pkcs12 = await readNamed(source.file);
  const authority = await importPkcs12({ pkcs12, password: await readPassword(source.passwordFile) });
  return withLock(place, { action: 'ca.import' }, async (files) => {
    const existing = await files.readAuthority('issuing');
    if (existing !== undefined && !source.replaces) {
      throw new CulvertError({
        code: 'CA_EXISTS',
        message: 'this state directory already has a CA',
        hint: 'add --replace to sign with the imported CA from now on; the old one stays trusted meanwhile',
      });
    }
    const nowMs = Date.now();
    const { trustDomain } = place;
    const what = `the ${isRoot(authority) ? 'root' : 'issuing'} CA ${certificateHash(authority.certificatePem)}`;
    const serverNames = serverNamesOf(place.advertise ?? null);
    if (existing !== undefined && source.isForced !== true && !(await isTrustedByAll(place, authority))) {
      await assertNothingPrepared(files, authority);
      await provenIssuer({ authority, trustDomain, serverNames, nowMs });
      await files.writeAuthority('next-root', authority);
      return `prepared ${what}: start the controller, wait until culvert ca status shows that every agent trusts its root, and run culvert-controller ca rotate activate`;
    }
    await adoptAuthority({ files, authority, trustDomain, serverNames, nowMs });
    return `imported ${what}`;
  });
}

export async function rotateCa(
  place: Place,
  step: RotationStep,
  { isForced = false }: { readonly isForced?: boolean } = {},
): Promise<string> {
  return withLock(place, { action: 'ca.rotate', detail: { step } }, async (files) => {
    const { trustDomain } = place;
    const nodes = await knownNodes(place);
    const serverNames = serverNamesOf(place.advertise ?? null);
    await rotateRoot({ files, step, trustDomain, serverNames, nowMs: Date.now(), nodes, isForced });
    return {
      prepare:
        'prepared a new root; start the controller, and run the step activate when culvert ca status shows that every agent trusts it',
      activate:
        'the new root signs from now on; start the controller, and run the step finish when culvert ca status shows that every agent proves itself with it',
      finish: 'the old root is no longer trusted',
    }[step];
  });
}

/** Undefined when it is not known which nodes there are. Without a join token there was never a node. */
async function knownNodes({ stateDir }: Place): Promise<readonly TrustConfirmation[] | undefined> {
  const recorded = await new ConfirmationFile({ stateDir }).read();
  if (recorded !== undefined) return recorded;
  return (await readPrivateFile(join(stateDir, 'tokens.json'))) === undefined ? [] : undefined;
}

async function isTrustedByAll(place: Place, authority: CertificateAuthority): Promise<boolean> {
  const nodes = await knownNodes(place);
  return nodes !== undefined && notTrusting(certificateHash(authority.rootPem), nodes).length === 0;
}

/** A root that was prepared before may be trusted by some nodes already, and must not vanish unseen. */
async function assertNothingPrepared(files: CaFiles, authority: CertificateAuthority): Promise<void> {
  const prepared = await files.readAuthority('next-root');
  if (prepared === undefined || prepared.certificatePem === authority.certificatePem) return;
  throw new CulvertError({
    code: 'CA_ROTATION',
    message: `another CA is prepared already: ${certificateHash(prepared.certificatePem)}`,
    hint: 'finish that rotation first: culvert-controller ca rotate activate',
  });
}

async function withLock(
  place: Place,
  command: LocalCommand,
  task: (files: CaFiles) => Promise<string>,
): Promise<string> {
  await makeStateDirectory(place.stateDir);
  await assertOwner(place.stateDir);
  const unlock = await lockState(place.stateDir);
  try {
    await fixTrustDomain(place.stateDir, place.trustDomain);
    return await audited(place, command, () => task(new CaFiles(place)));
  } finally {
    await unlock();
  }
}

/** The beginning and the end of what a command does come into the audit log of the controller. */
function audited<T>({ stateDir }: Place, command: LocalCommand, task: () => Promise<T>): Promise<T> {
  return new LocalRequests({ directory: auditDirectory(stateDir) }).audited(command, task);
}

/**
 * Refuses to write as root into another user's directory: the controller could not read those files at its next start, and
 * that user could place links there.
 */
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
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (file.isRead) return file.bytes;
  throw new CulvertError({
    code: 'FILE_READ',
    message: `cannot read ${path}: ${file.problem}`,
    hint: 'check the path and the permissions',
    cause: file.cause,
  });
}
