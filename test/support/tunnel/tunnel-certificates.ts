import type { SpiffeId } from '../../../shared/identity.js';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
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

  private constructor(root: CertificateAuthority, issuer: CertificateAuthority) {
    this.root = root;
    this.#issuer = issuer;
  }

  static async create(): Promise<TestCa> {
    const now = Date.now() - 48 * hourMs;
    const root = await createRootCa({ trustDomain: 'lab.test', now });
    return new TestCa(root, await createIssuingCa({ root, trustDomain: 'lab.test', now }));
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
