import { CulvertError } from '../../shared/errors.js';
import { proveAuthority } from './prove-authority.js';
import {
  assertCanSign,
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from './x509/certificate-authority.js';
import type { CaFiles } from './ca-files.js';
import type { ExternalRecord } from './issuer/external-record.js';
import type { TakeUp } from './open-mesh-ca.js';
import { certificateHash } from '../../shared/pki/certificate-info.js';
import type { TrustConfirmation } from './rotation-confirmations.js';
import { nodesUnknown, notProving, notTrusting, stepUnconfirmed } from './unconfirmed.js';

export type RotationStep = 'prepare' | 'activate' | 'finish';

/**
 * Replaces the root CA so that every peer can verify every certificate at any time. `prepare` creates a new root that all
 * agents learn to trust, `activate` signs with it, `finish` stops trusting the old one. Works on the files; the controller
 * picks it up at its next start, and running agents follow in seconds.
 *
 * Throws CulvertError `CA_ROTATION` when the step is out of order, and `CA_UNCONFIRMED` when a node has not confirmed the
 * step before: after `activate` a node that does not trust the new root is cut off from NATS, and after `finish` one whose
 * certificates are under the old root is refused everywhere. `isForced` skips that check.
 */
export async function rotateRoot(input: {
  readonly files: CaFiles;
  readonly step: RotationStep;
  readonly trustDomain: string;
  readonly nowMs: number;
  /** Every node of the mesh; undefined: not known. */
  readonly nodes: readonly TrustConfirmation[] | undefined;
  readonly isForced: boolean;
  readonly serverNames: readonly string[];
  /** Asks an issuer elsewhere to sign from now on, see `ExternalCa.takeUp`; null: the new root is the controller's own. */
  readonly takeUp: TakeUp | null;
}): Promise<void> {
  const { files, trustDomain, serverNames, nowMs, takeUp } = input;
  const next = await files.readAuthority('next-root');
  const nextIssuer = await files.readExternal('next-external');
  if (takeUp !== null && input.step !== 'finish') {
    if ((await files.readExternal('external')) !== undefined) throw rotatesElsewhere();
    if (next !== undefined)
      throw outOfOrder('a new root of the controller itself is prepared', 'activate --issuer own');
    if (input.step === 'prepare') return files.writeExternal('next-external', await takeUp());
    if (nextIssuer === undefined) throw outOfOrder('the issuer is not prepared', 'prepare');
    if (!input.isForced) assertTrusted(nextIssuer.rootPem, input.nodes, 'ca rotate activate');
    return adoptIssuer(files, nextIssuer, nowMs);
  }
  if (nextIssuer !== undefined) throw outOfOrder('an issuer elsewhere is prepared', 'activate, with its settings,');
  if (input.step === 'prepare') {
    if (next !== undefined) throw outOfOrder('a new root is already prepared', 'activate');
    return files.writeAuthority('next-root', await createRootCa({ trustDomain, now: nowMs }));
  }
  if (input.step === 'finish') {
    if (next !== undefined) throw outOfOrder('the new root is not active yet', 'activate');
    if (!input.isForced) await assertProven(files, input.nodes, nowMs);
    return files.remove('previous-roots');
  }
  if (next === undefined) throw outOfOrder('no new root is prepared', 'prepare');
  if (!input.isForced) assertTrusted(next.rootPem, input.nodes, 'ca rotate activate');
  await adoptAuthority({ files, authority: next, trustDomain, serverNames, nowMs });
  await files.remove('next-root');
}

/** The record decides who signs, and it is written in one step; what a crash leaves, the next start removes. */
async function adoptIssuer(files: CaFiles, issuer: ExternalRecord, nowMs: number): Promise<void> {
  await keepTrustingOldRoot(files, nowMs);
  await files.writeExternal('external', issuer);
  for (const name of ['issuing', 'root', 'next-external'] as const) await files.remove(name);
}

/** Throws `CA_UNCONFIRMED` unless every node trusts a root. */
function assertTrusted(rootPem: string, nodes: readonly TrustConfirmation[] | undefined, step: string): void {
  if (nodes === undefined) throw nodesUnknown(step);
  const missing = notTrusting(certificateHash(rootPem), nodes);
  if (missing.length === 0) return;
  throw stepUnconfirmed({
    step,
    what: 'it trusts the new root',
    consequence: 'cuts them off from NATS and from the others until they have fetched the new root',
    nodes: missing,
  });
}

async function assertProven(
  files: CaFiles,
  nodes: readonly TrustConfirmation[] | undefined,
  nowMs: number,
): Promise<void> {
  const issuing = (await files.readExternal('external')) ?? (await files.readAuthority('issuing'));
  if (issuing === undefined || (await files.readPreviousRoots(nowMs)).length === 0) return;
  if (nodes === undefined) throw nodesUnknown('ca rotate finish');
  const missing = notProving(certificateHash(issuing.rootPem), nodes);
  if (missing.length === 0) return;
  throw stepUnconfirmed({
    step: 'ca rotate finish',
    what: 'all its certificates are under the new root',
    consequence: 'these hosts have to join again',
    nodes: missing,
  });
}

export type Adoption = {
  readonly files: CaFiles;
  readonly authority: CertificateAuthority;
  readonly trustDomain: string;
  /** Of the controller's servers. */
  readonly serverNames: readonly string[];
  readonly nowMs: number;
};

/**
 * The CA that would sign with this authority: itself, or under a root a new issuing CA. It is proved to be usable by
 * issuing and verifying with it. Writes nothing. Throws `CA_UNUSABLE`.
 */
export async function provenIssuer(o: Omit<Adoption, 'files'>): Promise<CertificateAuthority> {
  const { authority, trustDomain, serverNames, nowMs } = o;
  assertCanSign(authority, nowMs);
  const issuer = isRoot(authority) ? await createIssuingCa({ root: authority, trustDomain, now: nowMs }) : authority;
  await proveAuthority({ issuer, trustDomain, serverNames, nowMs: () => nowMs });
  return issuer;
}

/**
 * Signs from now on with a root, or with an issuing CA whose root key is kept elsewhere, once it is proved to be usable.
 * Certificates under the old root stay trusted. The file of the issuing CA is what decides, and it is written in one step,
 * so a crash leaves a CA that works, and the command can be repeated. Throws `CA_UNUSABLE`; then nothing has changed.
 */
export async function adoptAuthority(o: Adoption): Promise<void> {
  const { files, authority, nowMs } = o;
  const issuer = await provenIssuer(o);
  await keepTrustingOldRoot(files, nowMs);
  await files.writeAuthority('issuing', issuer);
  if (isRoot(authority)) await files.writeAuthority('root', authority);
  else await files.remove('root');
  for (const name of ['external', 'server-api', 'server-nats'] as const) await files.remove(name);
}

export function isRoot({ certificatePem, rootPem }: CertificateAuthority): boolean {
  return certificatePem === rootPem;
}

async function keepTrustingOldRoot(files: CaFiles, nowMs: number): Promise<void> {
  const external = await files.readExternal('external');
  const old = external ?? (await files.readAuthority('issuing'));
  if (old !== undefined) await files.addPreviousRoot(old.rootPem + (external?.rootsPem ?? ''), nowMs);
}

function rotatesElsewhere(): CulvertError {
  return new CulvertError({
    code: 'CA_ROTATION',
    message: 'the issuer elsewhere signs already, and has its own root',
    hint: 'to replace its root, add the new one to the file of --issuer-roots-file; to move to a CA of the controller, add --issuer own',
  });
}

function outOfOrder(
  message: string,
  step: RotationStep | 'activate --issuer own' | 'activate, with its settings,',
): CulvertError {
  return new CulvertError({
    code: 'CA_ROTATION',
    message,
    hint: `run culvert-controller ca rotate ${step} first`,
  });
}
