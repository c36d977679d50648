import { CulvertError } from '../../shared/errors.js';
import { createIssuingCa, createRootCa, type CertificateAuthority } from './x509/certificate-authority.js';
import type { CaFiles } from './ca-files.js';

export const rotationSteps = ['prepare', 'activate', 'finish'] as const;
export type RotationStep = (typeof rotationSteps)[number];

/**
 * Replaces the root CA without a moment in which somebody meets a certificate that he cannot check. Each step needs
 * every agent to have renewed its certificates since the one before (the answer carries the roots):
 * `prepare` makes a new root that everybody learns to trust, `activate` signs with it, `finish` forgets the old one.
 *
 * Works on the files; a running controller takes it up at its next start. Throws CulvertError `CA_ROTATION` when the
 * step is out of turn.
 */
export async function rotateRoot(input: {
  readonly files: CaFiles;
  readonly step: RotationStep;
  readonly trustDomain: string;
  readonly nowMs: number;
}): Promise<void> {
  const { files, trustDomain, nowMs } = input;
  const next = await files.readAuthority('next-root');
  if (input.step === 'prepare') {
    if (next !== undefined) throw outOfTurn('a new root is prepared already', 'activate');
    return files.writeAuthority('next-root', await createRootCa({ trustDomain, now: nowMs }));
  }
  if (input.step === 'finish') {
    if (next !== undefined) throw outOfTurn('the new root is not active yet', 'activate');
    return files.remove('previous-roots');
  }
  if (next === undefined) throw outOfTurn('no new root is prepared', 'prepare');
  await adoptRoot({ files, root: next, trustDomain, nowMs });
  await files.remove('next-root');
}

/** Makes `root` the one that signs from now on; what was signed under the old one stays trusted. */
export async function adoptRoot(input: {
  readonly files: CaFiles;
  readonly root: CertificateAuthority;
  readonly trustDomain: string;
  readonly nowMs: number;
}): Promise<void> {
  const { files, root, trustDomain, nowMs } = input;
  const issuing = await createIssuingCa({ root, trustDomain, now: nowMs });
  await keepTrustingOldRoot(files, nowMs);
  await files.writeAuthority('root', root);
  await files.writeAuthority('issuing', issuing);
}

/** Makes an issuing CA of a root whose key is kept elsewhere the one that signs from now on. */
export async function adoptIssuing(input: {
  readonly files: CaFiles;
  readonly issuing: CertificateAuthority;
  readonly nowMs: number;
}): Promise<void> {
  await keepTrustingOldRoot(input.files, input.nowMs);
  await input.files.remove('root');
  await input.files.writeAuthority('issuing', input.issuing);
}

async function keepTrustingOldRoot(files: CaFiles, nowMs: number): Promise<void> {
  const old = await files.readAuthority('issuing');
  if (old !== undefined) await files.addPreviousRoot(old.rootPem, nowMs);
}

function outOfTurn(message: string, step: RotationStep): CulvertError {
  return new CulvertError({
    code: 'CA_ROTATION',
    message,
    hint: `run culvert-controller ca rotate ${step} first`,
  });
}
