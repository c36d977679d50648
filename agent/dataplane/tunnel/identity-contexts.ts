import tls from 'node:tls';
import { constants } from 'node:crypto';
import type { SpiffeId } from '../../../shared/identity.js';
import type { IdentityCertificate } from '../messages.js';
import type { TunnelCertificates } from './tunnel.js';

/**
 * The certificates of this node's workloads, as TLS contexts that are made when first needed. TLS 1.3 only, no session
 * tickets: every handshake proves both identities anew.
 */
export class IdentityContexts {
  #rootsPem = '';
  #certificates = new Map<SpiffeId, IdentityCertificate>();
  readonly #contexts = new Map<SpiffeId, tls.SecureContext>();

  certificateOf(identity: SpiffeId): IdentityCertificate | undefined {
    return this.#certificates.get(identity);
  }

  /** For `tls.createServer`; null when this node has no certificate for the identity (any more). */
  optionsFor(identity: SpiffeId): tls.SecureContextOptions | null {
    const certificate = this.#certificates.get(identity);
    if (certificate === undefined || this.#rootsPem === '') return null;
    return {
      ca: this.#rootsPem,
      cert: certificate.chainPem,
      key: certificate.keyPem,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      // AES-128 first: the data plane spends most of its CPU here, and 128 bits are as good as the P-256 handshake.
      ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
      secureOptions: constants.SSL_OP_NO_TICKET,
    };
  }

  /** The same as a context, made once. Throws when OpenSSL cannot read the certificate. */
  contextFor(identity: SpiffeId): tls.SecureContext | null {
    const known = this.#contexts.get(identity);
    if (known !== undefined) return known;
    const options = this.optionsFor(identity);
    if (options === null) return null;
    const context = tls.createSecureContext(options);
    this.#contexts.set(identity, context);
    return context;
  }

  /** Returns the identities whose certificate came, went or changed; all of them when the roots did. */
  replace(next: TunnelCertificates): Set<SpiffeId> {
    const haveRootsChanged = next.rootsPem !== this.#rootsPem;
    const certificates = new Map(next.certificates.map((certificate) => [certificate.identity, certificate]));
    const changed = new Set<SpiffeId>();
    for (const identity of new Set([...this.#certificates.keys(), ...certificates.keys()])) {
      const isSame = isSameCertificate(this.#certificates.get(identity), certificates.get(identity));
      if (haveRootsChanged || !isSame) changed.add(identity);
    }
    for (const identity of changed) this.#contexts.delete(identity);
    this.#rootsPem = next.rootsPem;
    this.#certificates = certificates;
    return changed;
  }
}

function isSameCertificate(a: IdentityCertificate | undefined, b: IdentityCertificate | undefined): boolean {
  return a !== undefined && b !== undefined && a.chainPem === b.chainPem && a.keyPem === b.keyPem;
}
