import type { SpiffeId } from '../../shared/identity.js';
import type { Log } from '../../shared/log.js';
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

/** Certificates, PEM. */
export type MeshTrust = {
  readonly issuingPem: string;
  readonly rootPem: string;
  readonly nextRootPem: string | null;
  readonly previousRootsPem: readonly string[];
};

/** The issuing CA is replaced when less than this part of its lifetime is left, so that leaves get their full lifetime. */
const renewBelow = 1 / 3;

/**
 * The certificate authority of the mesh: root → issuing CA → leaf. Created at the first start; keys stay in the state
 * directory. It only signs: callers decide who may have which certificate.
 */
export class MeshCa {
  readonly #settings: MeshCaSettings;
  readonly #files: CaFiles;
  readonly #log: Log;
  readonly #nowMs: () => number;
  #issuing: CertificateAuthority;
  #rootsPem: string;
  #next: CertificateAuthority | undefined;
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

  /** Reads the CA, or creates it. Errors: `CA_INVALID`, `KEY_INVALID`, `STATE_READ`, `STATE_WRITE`. */
  static async open(init: { settings: MeshCaSettings; log: Log; nowMs: () => number }): Promise<MeshCa> {
    const { settings, log, nowMs } = init;
    const files = new CaFiles(settings);
    const issuing = (await files.readAuthority('issuing')) ?? (await createAuthorities(files, settings, nowMs(), log));
    const ca = new MeshCa({ settings, files, log, nowMs, issuing, rootsPem: issuing.rootPem });
    await ca.refresh();
    return ca;
  }

  /** Every root to trust now, PEM; the one in use first. During a rotation there are several. */
  get rootsPem(): string {
    return this.#rootsPem;
  }

  /** SHA-256 of the public key of the root in use. Join tokens pin it. */
  get rootHash(): string {
    return certificateHash(this.#issuing.rootPem);
  }

  /** What signs now, and what else is trusted. During a rotation there is a next root, and then a previous one. */
  get trust(): MeshTrust {
    return {
      issuingPem: this.#issuing.certificatePem,
      rootPem: this.#issuing.rootPem,
      nextRootPem: this.#next?.rootPem ?? null,
      previousRootsPem: this.#previousRoots.filter((pem) => pem !== this.#issuing.rootPem),
    };
  }

  /** When the CA that signs leaves expires, milliseconds since the epoch. */
  get issuingNotAfterMs(): number {
    return this.#issuing.notAfterMs;
  }

  /** Renews the issuing CA when due and drops expired roots. The owner calls it periodically. */
  async refresh(): Promise<void> {
    const now = this.#nowMs();
    const { notBeforeMs, notAfterMs } = describeCertificate(this.#issuing.certificatePem);
    if (notAfterMs - now < (notAfterMs - notBeforeMs) * renewBelow) await this.#renewIssuing(now);
    const next = await this.#files.readAuthority('next-root');
    const previous = await this.#files.readPreviousRoots(now);
    this.#next = next;
    this.#previousRoots = previous;
    this.#rootsPem = joinCertificates([
      this.#issuing.rootPem,
      ...(next === undefined ? [] : [next.rootPem]),
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

  signServer(request: {
    readonly publicKeyPem: string;
    readonly dnsNames: readonly string[];
    readonly ipAddresses: readonly string[];
  }): Promise<IssuedCertificate> {
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
        'the imported issuing CA expires soon: import a new one with culvert-controller ca import',
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

async function createAuthorities(
  files: CaFiles,
  settings: MeshCaSettings,
  now: number,
  log: Log,
): Promise<CertificateAuthority> {
  let root = await files.readAuthority('root');
  if (root === undefined) {
    root = await createRootCa({ trustDomain: settings.trustDomain, now });
    await files.writeAuthority('root', root);
    log.info({ hash: certificateHash(root.certificatePem) }, 'created the root CA');
  }
  const issuing = await createIssuingCa({ root, trustDomain: settings.trustDomain, now });
  await files.writeAuthority('issuing', issuing);
  return issuing;
}
