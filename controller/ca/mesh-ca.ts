import { join } from 'node:path';
import { KeyVault } from '../keys/key-vault.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { CertificateIssuer, MeshTrust, ServerRequest } from './certificate-issuer.js';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { readPrivateFile } from '../../shared/private-file.js';
import { createIssuingCa, createRootCa, type CertificateAuthority } from './x509/certificate-authority.js';
import { certificateHash, describeCertificate } from '../../shared/pki/certificate-info.js';
import type { IssuedCertificate } from './x509/leaf-certificate.js';
import { issueNodeCertificate, issueServerCertificate, issueWorkloadCertificate } from './x509/mesh-certificates.js';
import { joinCertificates } from '../../shared/pki/pem.js';
import { CaFiles } from './ca-files.js';
import type { NodeName } from '../../shared/routing/names.js';

export type MeshCaSettings = {
  readonly stateDir: string;
  readonly trustDomain: string;
  readonly workloadTtlMs: number;
  readonly nodeTtlMs: number;
  readonly serverTtlMs: number;
  readonly backdateMs: number;
};

/** The issuing CA is replaced when less than this part of its lifetime is left, so that leaves get their full lifetime. */
const renewBelow = 1 / 3;

/**
 * The certificate authority of the mesh where no issuer is configured: root → issuing CA → leaf. Created at the first start;
 * keys stay in the state directory.
 */
export class MeshCa implements CertificateIssuer {
  readonly external = null;
  readonly parallel = 1;
  readonly #settings: MeshCaSettings;
  readonly #files: CaFiles;
  readonly #log: Log;
  readonly #nowMs: () => number;
  #issuing: CertificateAuthority;
  #rootsPem: string;
  #nextRootPem: string | null = null;
  #previousRoots: readonly string[] = [];

  private constructor(init: {
    settings: MeshCaSettings;
    files: CaFiles;
    log: Log;
    nowMs: () => number;
    issuing: CertificateAuthority;
    rootsPem: string;
  }) {
    this.#settings = init.settings;
    this.#files = init.files;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#issuing = init.issuing;
    this.#rootsPem = init.rootsPem;
  }

  /**
   * Reads the CA, or creates it in a new mesh. Errors: `CA_MISSING`, `CA_INVALID`, `KEY_INVALID`, `STATE_READ`,
   * `STATE_WRITE`.
   */
  static async open(init: {
    settings: MeshCaSettings;
    /** Absent: the keys are in the clear. */
    vault?: KeyVault;
    log: Log;
    nowMs: () => number;
  }): Promise<MeshCa> {
    const { settings, vault = KeyVault.plain, log, nowMs } = init;
    const files = new CaFiles({ stateDir: settings.stateDir, vault });
    const issuing = (await files.readAuthority('issuing')) ?? (await createAuthorities(files, settings, nowMs(), log));
    const ca = new MeshCa({ settings, files, log, nowMs, issuing, rootsPem: issuing.rootPem });
    await ca.refresh();
    return ca;
  }

  get rootsPem(): string {
    return this.#rootsPem;
  }

  get rootHash(): string {
    return certificateHash(this.#issuing.rootPem);
  }

  get nextRootHash(): string | null {
    return this.#nextRootPem === null ? null : certificateHash(this.#nextRootPem);
  }

  get trust(): MeshTrust {
    return {
      issuingPem: this.#issuing.certificatePem,
      rootPem: this.#issuing.rootPem,
      nextRootPem: this.#nextRootPem,
      previousRootsPem: this.#previousRoots.filter((pem) => pem !== this.#issuing.rootPem),
    };
  }

  get issuingNotAfterMs(): number {
    return this.#issuing.notAfterMs;
  }

  /** Renews the issuing CA when due and drops expired roots. The owner calls it periodically. */
  async refresh(): Promise<void> {
    const now = this.#nowMs();
    const { notBeforeMs, notAfterMs } = describeCertificate(this.#issuing.certificatePem);
    if (notAfterMs - now < (notAfterMs - notBeforeMs) * renewBelow) await this.#renewIssuing(now);
    const next = await this.#files.readAuthority('next-root');
    const nextIssuer = await this.#files.readExternal('next-external');
    const previous = await this.#files.readPreviousRoots(now);
    this.#nextRootPem = next?.rootPem ?? nextIssuer?.rootPem ?? null;
    this.#previousRoots = previous;
    this.#rootsPem = joinCertificates([
      this.#issuing.rootPem,
      ...(next === undefined ? [] : [next.rootPem]),
      ...(nextIssuer === undefined ? [] : [nextIssuer.rootPem, nextIssuer.rootsPem]),
      ...previous,
    ]);
  }

  signWorkload(request: { readonly csrPem: string; readonly identity: SpiffeId }): Promise<IssuedCertificate> {
    return issueWorkloadCertificate({ ...request, ...this.#leaf(this.#settings.workloadTtlMs) });
  }

  signNode(request: { readonly csrPem: string; readonly node: NodeName }): Promise<IssuedCertificate> {
    const { trustDomain, nodeTtlMs } = this.#settings;
    return issueNodeCertificate({ ...request, trustDomain, ...this.#leaf(nodeTtlMs) });
  }

  signServer(request: ServerRequest): Promise<IssuedCertificate> {
    return issueServerCertificate({ ...request, ...this.#leaf(this.#settings.serverTtlMs) });
  }

  #leaf(ttlMs: number) {
    return { issuer: this.#issuing, ttlMs, backdateMs: this.#settings.backdateMs, now: this.#nowMs() };
  }

  async #renewIssuing(now: number): Promise<void> {
    const root = await this.#files.readAuthority('root');
    const left = `${Math.round((this.#issuing.notAfterMs - now) / 86_400_000)} days`;
    // Of another root than the one in use, after a rotation that broke off.
    if (root === undefined || root.rootPem !== this.#issuing.rootPem) {
      this.#log.warn(
        { left },
        'the issuing CA expires soon, and the key of its root is not here: run culvert-controller ca import (--without-root, if it is the root that is imported)',
      );
      return;
    }
    const issuing = await createIssuingCa({ root, trustDomain: this.#settings.trustDomain, now });
    // A root that expires soon caps the issuing CA, so a new one would not last longer.
    if (issuing.notAfterMs <= this.#issuing.notAfterMs) {
      this.#log.warn({ left }, 'the root CA expires soon: rotate it with culvert-controller ca rotate');
      return;
    }
    await this.#files.writeAuthority('issuing', issuing);
    this.#issuing = issuing;
    this.#log.info({ notAfter: new Date(issuing.notAfterMs).toISOString() }, 'renewed the issuing CA');
  }
}

/** A new root in an old mesh would cut off every agent. Its signing key was made after its CA. */
async function assertNewMesh(stateDir: string): Promise<void> {
  if ((await readPrivateFile(join(stateDir, 'signing-key.json'))) === undefined) return;
  throw new CulvertError({
    code: 'CA_MISSING',
    message: `the CA of this mesh is not in ${join(stateDir, 'ca')}`,
    hint: 'restore it from a backup, or import the root that is kept elsewhere: culvert-controller ca import --without-root',
  });
}

async function createAuthorities(
  files: CaFiles,
  settings: MeshCaSettings,
  now: number,
  log: Log,
): Promise<CertificateAuthority> {
  let root = await files.readAuthority('root');
  if (root === undefined) {
    await assertNewMesh(settings.stateDir);
    root = await createRootCa({ trustDomain: settings.trustDomain, now });
    await files.writeAuthority('root', root);
    log.info({ hash: certificateHash(root.certificatePem) }, 'created the root CA');
  }
  const issuing = await createIssuingCa({ root, trustDomain: settings.trustDomain, now });
  await files.writeAuthority('issuing', issuing);
  return issuing;
}
