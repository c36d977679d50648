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
import type { TakeUp } from './open-mesh-ca.js';
import { adoptAuthority, isRoot, provenIssuer, rotateRoot, type RotationStep } from './root-rotation.js';
import { serverNamesOf } from './server-names.js';
import { ConfirmationFile, type TrustConfirmation } from './rotation-confirmations.js';
import { notTrusting } from './unconfirmed.js';
import { createIssuingCa, type CertificateAuthority } from './x509/certificate-authority.js';
import { isSameKey } from './x509/key-pair.js';
import { readNamedFile } from '../../shared/named-file.js';
import { changeVault, removeHalfWritten } from '../keys/key-files.js';
import { KeyVault } from '../keys/key-vault.js';
import { makeStateDirectory, readPrivateFile, syncDirectoryOf } from '../../shared/private-file.js';

type Place = Pick<ControllerSettings, 'stateDir' | 'trustDomain'> &
  Partial<Pick<ControllerSettings, 'advertise' | 'keyPassphraseFile' | 'unsafeWithoutKernelLock'>>;

/** More than a CA with its chain and a password have. */
const maxFileBytes = 1024 * 1024;

/**
 * The commands `culvert-controller ca …`, which work on the CA on disk. Each returns the line to print. Commands that
 * change the CA need the controller stopped, else they throw `STATE_LOCKED`, or `NO_KERNEL_LOCK` where that cannot be known.
 */
export async function exportCa(
  place: Place,
  out: string,
  passwordFile: string,
  { removesRoot = false }: { readonly removesRoot?: boolean } = {},
): Promise<string> {
  const files = await filesOf(place);
  // Before anything is written, also into the audit log: the path may be a wrong one.
  const authority = (await files.readAuthority('root')) ?? (await files.readAuthority('issuing'));
  if (authority === undefined) {
    throw (await files.readExternal('external')) === undefined ? caMissing(place) : signedElsewhere();
  }
  await assertOwner(place.stateDir);
  if (!removesRoot) return audited(place, { action: 'ca.export' }, () => exporting(authority, out, passwordFile));
  return withLock(place, { action: 'ca.export', detail: { removesRoot } }, () => movingRoot(files, out, passwordFile));
}

/** The root's key leaves this host: only what has proved to be readable is removed. */
async function movingRoot(files: CaFiles, out: string, passwordFile: string): Promise<string> {
  const root = await files.readAuthority('root');
  const issuing = await files.readAuthority('issuing');
  if (root === undefined || issuing === undefined) {
    throw new CulvertError({
      code: 'CA_MISSING',
      message: 'the key of the root is not in this state directory',
      hint: 'leave --remove out to export the issuing CA',
    });
  }
  if ((await files.readAuthority('next-root')) !== undefined || root.rootPem !== issuing.rootPem) {
    throw new CulvertError({
      code: 'CA_ROTATION',
      message: 'a rotation of the root is under way',
      hint: 'finish it first: culvert ca status shows the next step',
    });
  }
  const written = await exporting(root, out, passwordFile);
  await syncDirectoryOf(out);
  const copy = await importPkcs12({ pkcs12: await readNamed(out), password: await readPassword(passwordFile) });
  if (!isSameKey(copy.privateKeyPem, root.privateKeyPem) || copy.certificatePem !== root.certificatePem) {
    throw new CulvertError({
      code: 'FILE_WRITE',
      message: `what was read back from ${out} is not the root; nothing was removed`,
      hint: 'check the disk, and name a new file',
    });
  }
  await files.remove('root');
  return `${written}\nremoved the key of the root from the state directory: take the file off this host. The issuing CA signs until ${new Date(issuing.notAfterMs).toISOString()}; before that run: culvert-controller ca import --in ${out} --password-file FILE --replace --without-root`;
}

async function exporting(authority: CertificateAuthority, out: string, passwordFile: string): Promise<string> {
  const pkcs12 = exportPkcs12({ authority, password: await readPassword(passwordFile) });
  try {
    await writeFile(out, pkcs12, { mode: 0o600, flag: 'wx', flush: true });
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
 * `withoutRoot`: an issuing CA is made with an imported root, whose key does not come to this host's disk.
 */
export async function importCa(
  place: Place,
  source: {
    readonly file: string;
    readonly passwordFile: string;
    readonly replaces: boolean;
    readonly isForced?: boolean;
    readonly withoutRoot?: boolean;
  },
): Promise<string> {
  // A new mesh may begin with an import, but a replacement needs something to replace.
  if (source.replaces) await assertHasCa(place);
  const pkcs12 = await readNamed(source.file);
  const imported = await importPkcs12({ pkcs12, password: await readPassword(source.passwordFile) });
  const authority =
    source.withoutRoot === true && isRoot(imported)
      ? await createIssuingCa({ root: imported, trustDomain: place.trustDomain })
      : imported;
  return withLock(place, { action: 'ca.import' }, async (files) => {
    if ((await files.readExternal('external')) !== undefined) throw signedElsewhere();
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
    // Agents trust the root already where only the issuing CA is another one.
    const isKnownRoot = existing?.rootPem === authority.rootPem;
    const isHeld = source.isForced !== true && !isKnownRoot && !(await isTrustedByAll(place, authority));
    if (existing !== undefined && isHeld) {
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
  { isForced = false, takeUp = null }: { readonly isForced?: boolean; readonly takeUp?: TakeUp | null } = {},
): Promise<string> {
  if ((await (await filesOf(place)).readExternal('external')) === undefined) await assertHasCa(place);
  return withLock(place, { action: 'ca.rotate', detail: { step } }, async (files) => {
    const { trustDomain } = place;
    const nodes = await knownNodes(place);
    const serverNames = serverNamesOf(place.advertise ?? null);
    await rotateRoot({ files, step, trustDomain, serverNames, nowMs: Date.now(), nodes, isForced, takeUp });
    if (takeUp !== null && step !== 'finish') return movingTo(step);
    const users = await contextFiles(place);
    return {
      prepare:
        'prepared a new root; start the controller, and run the step activate when culvert ca status shows that every agent trusts it' +
        (users === null ? '' : `; before that step, ${users} have to run culvert context refresh`),
      activate:
        'the new root signs from now on; start the controller, and run the step finish when culvert ca status shows that every agent proves itself with it' +
        (users === null
          ? ''
          : `; of ${users}, those who did not run culvert context refresh need: culvert user renew NAME`),
      finish:
        'the old root is no longer trusted' +
        (users === null ? '' : `; of ${users}, those whose context file is refused need: culvert user renew NAME`),
    }[step];
  });
}

function movingTo(step: 'prepare' | 'activate'): string {
  return step === 'prepare'
    ? 'the issuer can sign for this mesh, and its root is prepared; start the controller, and run the step activate when culvert ca status shows that every agent trusts it'
    : 'the issuer signs from now on, and the keys of the old CA were removed from the state directory; start the controller, and run the step finish when culvert ca status shows that every agent proves itself with the new root';
}

/** Before anything is written: a directory that no controller uses must not become one that looks rotated. */
async function assertHasCa(place: Place): Promise<void> {
  const files = await filesOf(place);
  if ((await files.readExternal('external')) !== undefined) throw signedElsewhere();
  if ((await files.readAuthority('issuing')) === undefined) throw caMissing(place);
}

function signedElsewhere(): CulvertError {
  return new CulvertError({
    code: 'CA_EXTERNAL',
    message: 'an issuer elsewhere signs for this mesh, so no key of a CA is here',
    hint: 'to move to a CA of the controller, use culvert-controller ca rotate prepare --issuer own',
  });
}

function caMissing({ stateDir }: Place): CulvertError {
  return new CulvertError({
    code: 'CA_MISSING',
    message: `the state directory ${stateDir} has no CA`,
    hint: 'name the one that the controller uses with --state-dir (a systemd unit has it in its environment file), or start the controller once',
  });
}

/** Undefined when it is not known which nodes there are. Without a join token there was never a node. */
async function knownNodes({ stateDir }: Place): Promise<readonly TrustConfirmation[] | undefined> {
  const recorded = await new ConfirmationFile({ stateDir }).read();
  if (recorded !== undefined) return recorded;
  return (await readPrivateFile(join(stateDir, 'tokens.json'))) === undefined ? [] : undefined;
}

/** The users with a context file of their own, which has the roots of the time when it was made; null: there are none. */
async function contextFiles({ stateDir }: Place): Promise<string | null> {
  const text = await readPrivateFile(join(stateDir, 'users.json')).catch(() => undefined);
  // An entry has one, and a damaged file is not what this command is about.
  const count = text?.match(/"tokenHash":/g)?.length ?? 0;
  return count === 0 ? null : `${count} ${count === 1 ? 'user' : 'users'} with a context file`;
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
  const lock = await lockState(place.stateDir, {
    isFilesEnough: place.unsafeWithoutKernelLock ?? false,
    hint: 'stop the controller first: systemctl stop culvert-controller',
  });
  try {
    await fixTrustDomain(place.stateDir, place.trustDomain);
    await removeHalfWritten(place.stateDir);
    const files = await filesOf(place);
    return await audited(place, command, () => task(files));
  } finally {
    await lock.release();
  }
}

async function filesOf({ stateDir, keyPassphraseFile = null }: Place): Promise<CaFiles> {
  return new CaFiles({ stateDir, vault: await KeyVault.open(keyPassphraseFile, { stateDir }) });
}

/**
 * Encrypts every key of the state directory with the passphrase in `newPassphraseFile`; null: writes them in the clear.
 * Returns the line to print. The controller must be stopped, else it throws `STATE_LOCKED`.
 */
export async function changeKeys(place: Place, newPassphraseFile: string | null): Promise<string> {
  const to = await KeyVault.open(newPassphraseFile, place);
  const from = await KeyVault.open(place.keyPassphraseFile ?? null, place);
  return withLock({ ...place, keyPassphraseFile: null }, { action: 'keys.change' }, async () => {
    const names = await changeVault({ stateDir: place.stateDir, from, to });
    const how = newPassphraseFile === null ? 'in the clear' : 'encrypted with the new passphrase';
    return `wrote ${how}: ${names.join(', ')}; set --key-passphrase-file accordingly before the next start`;
  });
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
