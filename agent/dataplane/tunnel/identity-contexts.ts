import tls from 'node:tls';
import { constants } from 'node:crypto';
import type { SpiffeId } from '../../../shared/identity.js';
import { tlsSuites } from '../io/tls-context.js';
import type { IdentityCertificate } from '../messages.js';
import type { TunnelCertificates } from './tunnel.js';

/** What a change of certificates means for open tunnels. */
export type CertificateChange = {
  /** Identities with a new certificate, or with more roots. The value: end of the old certificate, Unix time in ms. */
  readonly renewed: ReadonlyMap<SpiffeId, number>;
  /** Identities that were added or removed, or all when a root is gone: what was proved before no longer counts. */
  readonly ended: ReadonlySet<SpiffeId>;
};

/**
 * The certificates of this node's workloads, as TLS contexts that are made on first use. TLS 1.3 only, without session
 * tickets: every handshake proves both identities. A resumed session would reuse the verdict of its first handshake, and
 * OpenSSL keeps the peer's leaf but not the chain, so neither expiry nor today's roots could be checked.
 */
export class IdentityContexts {
  #rootsPem = '';
  #certificates = new Map<SpiffeId, IdentityCertificate>();
  readonly #contexts = new Map<SpiffeId, tls.SecureContext>();

  certificateOf(identity: SpiffeId): IdentityCertificate | undefined {
    return this.#certificates.get(identity);
  }

  /** For `tls.createServer`; null when this node has no certificate for the identity. */
  optionsFor(identity: SpiffeId): tls.SecureContextOptions | null {
    const certificate = this.#certificates.get(identity);
    if (certificate === undefined || this.#rootsPem === '') return null;
    return {
      ca: this.#rootsPem,
      cert: certificate.chainPem,
      key: certificate.keyPem,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      ciphers: tlsSuites,
      secureOptions: constants.SSL_OP_NO_TICKET,
    };
  }

  /** As a context that is made once; null as above. Throws when OpenSSL cannot read the certificate. */
  contextFor(identity: SpiffeId): tls.SecureContext | null {
    const known = this.#contexts.get(identity);
    if (known !== undefined) return known;
    const options = this.optionsFor(identity);
    if (options === null) return null;
    const context = tls.createSecureContext(options);
    this.#contexts.set(identity, context);
    return context;
  }

  replace(next: TunnelCertificates): CertificateChange {
    const haveRootsChanged = next.rootsPem !== this.#rootsPem;
    const nextRoots = certificatesIn(next.rootsPem);
    const isRootGone = [...certificatesIn(this.#rootsPem)].some((root) => !nextRoots.has(root));
    const certificates = new Map(next.certificates.map((certificate) => [certificate.identity, certificate]));
    const renewed = new Map<SpiffeId, number>();
    const ended = new Set<SpiffeId>();
    for (const identity of new Set([...this.#certificates.keys(), ...certificates.keys()])) {
      const before = this.#certificates.get(identity);
      const after = certificates.get(identity);
      if (isRootGone || before === undefined || after === undefined) ended.add(identity);
      else if (haveRootsChanged || before.chainPem !== after.chainPem || before.keyPem !== after.keyPem) {
        renewed.set(identity, before.notAfterMs);
      } else continue;
      this.#contexts.delete(identity);
    }
    this.#rootsPem = next.rootsPem;
    this.#certificates = certificates;
    return { renewed, ended };
  }
}

function certificatesIn(pem: string): Set<string> {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return new Set(found.map((text) => text.replaceAll(/\s/g, '')));
}
