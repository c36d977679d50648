import { CulvertError } from '../../shared/errors.js';
import { createIssuingCa, createRootCa, type CertificateAuthority } from './x509/certificate-authority.js';
import type { CaFiles } from './ca-files.js';

export const rotationSteps = ['prepare', 'activate', 'finish'] as const;
export type RotationStep = (typeof rotationSteps)[number];

/**
 * Replaces the root CA so that every peer can verify every certificate at any time. `prepare` creates a new root that all
 * agents learn to trust, `activate` signs with it, `finish` stops trusting the old one. Before each step, every agent must
 * have renewed its certificates since the previous step, because the renewal's answer carries the roots.
 *
 * Works on the files; the controller picks it up at its next start. Throws CulvertError `CA_ROTATION` when the step is
 * out of order.
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
    if (next !== undefined) throw outOfOrder('a new root is already prepared', 'activate');
    return files.writeAuthority('next-root', await createRootCa({ trustDomain, now: nowMs }));
  }
  if (input.step === 'finish') {
    if (next !== undefined) throw outOfOrder('the new root is not active yet', 'activate');
    return files.remove('previous-roots');
  }
  if (next === undefined) throw outOfOrder('no new root is prepared', 'prepare');
  await adoptRoot({ files, root: next, trustDomain, nowMs });
  await files.remove('next-root');
}

/** Signs with `root` from now on. Certificates under the old root stay trusted. */
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

/** Signs from now on with an issuing CA whose root key is kept elsewhere. */
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

function outOfOrder(message: string, step: RotationStep): CulvertError {
  return new CulvertError({
    code: 'CA_ROTATION',
    message,
    hint: `run culvert-controller ca rotate ${step} first`,
  });
}
