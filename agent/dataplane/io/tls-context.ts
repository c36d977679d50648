import type { Reactor } from './reactor.js';

/** AES-128 first: most CPU of the data plane is spent here, and 128 bits match the strength of the P-256 handshake. */
export const tlsSuites = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

/** RFC 8446 section 5.5 allows a key of AES-GCM 2^24.5 records. */
const mostRecordsPerKey = 2 ** 23;

export type TlsContextParts = {
  /** Its own certificate first. */
  readonly chainPem: string;
  readonly keyPem: string;
  /** What it trusts: at least one. */
  readonly rootsPem: string;
  /** The only protocol that a session with it speaks, `h2` for example. */
  readonly alpn: string;
  /** Default, and the most that is safe: 2^23. */
  readonly recordsPerKey?: number;
};

/**
 * What TLS sessions of one side of a workload have in common: TLS 1.3 only, with both certificates, without tickets. Its owner
 * frees it; sessions that have begun go on.
 */
export class TlsContext {
  readonly handle: number;
  readonly #reactor: Reactor;
  #isFreed = false;

  /** Throws what cannot be used, in words. */
  constructor(reactor: Reactor, side: 'client' | 'server', parts: TlsContextParts) {
    const { chainPem, keyPem, rootsPem, alpn, recordsPerKey = mostRecordsPerKey } = parts;
    if (!isListOfCertificates(chainPem)) throw new Error('the certificate chain cannot be used');
    if (!isListOfCertificates(rootsPem)) throw new Error('the roots cannot be used');
    this.#reactor = reactor;
    this.handle = reactor.calls.ioTlsContext(
      side === 'server',
      Buffer.from(chainPem),
      Buffer.from(keyPem),
      Buffer.from(rootsPem),
      Buffer.from(String.fromCharCode(alpn.length) + alpn, 'latin1'),
      tlsSuites,
      recordsPerKey,
    );
  }

  /** No session begins with it any more. */
  free(): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    this.#reactor.calls.ioFreeTlsContext(this.handle);
  }
}

const block = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** OpenSSL passes over a certificate whose first line is damaged, and would trust or prove less than what was given. */
function isListOfCertificates(pem: string): boolean {
  return /-----BEGIN CERTIFICATE-----/.test(pem) && !/--|CERTIFICATE/.test(pem.replaceAll(block, ''));
}
