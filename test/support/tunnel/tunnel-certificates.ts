import { readFile } from 'node:fs/promises';
import type { SpiffeId } from '../../../shared/identity.js';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import {
  createIssuingCa,
  createRootCa,
  loadCertificateAuthority,
  type CertificateAuthority,
} from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { OpensslCas } from '../controller/openssl-ca.js';
import { issueWorkloadCertificate } from '../../../controller/ca/x509/mesh-certificates.js';

export const clientIdentity = 'spiffe://lab.test/ns/shop/sa/front' as SpiffeId;
export const serverIdentity = 'spiffe://lab.test/ns/shop/sa/back' as SpiffeId;
export const otherIdentity = 'spiffe://lab.test/ns/shop/sa/other' as SpiffeId;
export const strangerIdentity = 'spiffe://elsewhere.test/ns/shop/sa/front' as SpiffeId;

const hourMs = 3_600_000;

/** A CA of its own, whose certificates can begin and end when a test wants. */
export class TestCa {
  readonly root: CertificateAuthority;
  readonly #issuer: CertificateAuthority;
  readonly #first = new Map<SpiffeId, Promise<TunnelCertificates>>();

  private constructor(root: CertificateAuthority, issuer: CertificateAuthority) {
    this.root = root;
    this.#issuer = issuer;
  }

  static async create(): Promise<TestCa> {
    const now = Date.now() - 48 * hourMs;
    const root = await createRootCa({ trustDomain: 'lab.test', now });
    return new TestCa(root, await createIssuingCa({ root, trustDomain: 'lab.test', now }));
  }

  /** A CA of a company, which signs for every trust domain: only those that Culvert makes are limited to theirs. */
  static async ofCompany(): Promise<TestCa> {
    await using cas = await OpensslCas.create();
    const { keyFile, certificateFile } = await cas.make({ key: 'p256' });
    const [privateKeyPem, certificatesPem] = await Promise.all(
      [keyFile, certificateFile].map((file) => readFile(file, 'utf8')),
    );
    const root = await loadCertificateAuthority({
      certificatesPem: certificatesPem ?? '',
      privateKeyPem: privateKeyPem ?? '',
    });
    return new TestCa(root, root);
  }

  /** Those with which a party begins, the same at each call: making them takes longer than most tests of a tunnel. */
  first(identity: SpiffeId): Promise<TunnelCertificates> {
    const made = this.#first.get(identity) ?? this.issue(identity);
    this.#first.set(identity, made);
    return made;
  }

  /** `startsInMs` may be negative. `claimedNotAfterMs` is what the agent believes, the certificate itself is as asked. */
  async issue(
    identity: SpiffeId,
    options: { startsInMs?: number; ttlMs?: number; claimedNotAfterMs?: number } = {},
  ): Promise<TunnelCertificates> {
    const { csrPem, privateKeyPem } = await createCsr({ identity });
    const now = Date.now() + (options.startsInMs ?? 0);
    const ttlMs = options.ttlMs ?? 24 * hourMs;
    const issued = await issueWorkloadCertificate({
      issuer: this.#issuer,
      csrPem,
      identity,
      ttlMs,
      now,
      backdateMs: 0,
    });
    const notAfterMs = options.claimedNotAfterMs ?? issued.notAfterMs;
    return {
      rootsPem: this.root.rootPem,
      certificates: [{ identity, chainPem: issued.chainPem, keyPem: privateKeyPem, notAfterMs }],
    };
  }
}
