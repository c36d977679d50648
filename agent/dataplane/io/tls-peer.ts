import { getSystemErrorName } from 'node:util';
import type { IoCalls } from '../../native/io-calls.js';

/** What a handshake has shown of the peer. Whether that is enough is for others to judge. */
export type TlsPeer = {
  /** Why its certificate is not trusted: a code of openssl-verification-options(1) as Node names it, and words. Null: it is. */
  readonly distrust: TlsFailure | null;
  /** Empty when it speaks none. */
  readonly alpn: string;
  /** It took part in a handshake before, and showed nothing now. */
  readonly isResumed: boolean;
  /** Its certificate in DER; null: it has none, and then `distrust` says nothing. */
  readonly certificate: Uint8Array | null;
};

/**
 * How a TLS session failed. `code` is one that `failure-reasons.ts` knows: an errno, `ERR_SSL_` and OpenSSL's words in capitals,
 * or the code of a certificate that is not trusted.
 */
export type TlsFailure = Error & { readonly code: string };

/** Null before the handshake is done. */
export function peerOf(calls: IoCalls, handle: number): TlsPeer | null {
  const found = calls.ioTlsPeer(handle);
  if (found === null) return null;
  const [result, alpn, isResumed, certificate = null] = found;
  return { distrust: result === 0 ? null : distrustOf(result), alpn, isResumed, certificate };
}

/** From the words of `ioTlsFailure`, as Node makes its code of them. */
export function failureOfTls(words: string): TlsFailure {
  return failure(`ERR_SSL_${words.toUpperCase().replaceAll(' ', '_')}`, words);
}

/** From a negated errno. */
export function failureOfSocket(doing: 'read' | 'write' | 'handshake', number: number): TlsFailure {
  const code = getSystemErrorName(number);
  // The end of the connection in a handshake.
  if (code === 'ECONNABORTED')
    return failure('ECONNRESET', 'the other side closed the connection during the handshake');
  return failure(code, `${doing} ${code}`);
}

function failure(code: string, message: string): TlsFailure {
  return Object.assign(new Error(message), { code });
}

function distrustOf(result: number): TlsFailure {
  const [code, words] = verificationResults[result] ?? ['UNSPECIFIED', `verification result ${result}`];
  return failure(code, words);
}

/** openssl-verification-options(1) and openssl/x509_vfy.h; names as Node has them. */
const verificationResults: Readonly<Record<number, readonly [code: string, words: string]>> = {
  2: ['UNABLE_TO_GET_ISSUER_CERT', 'unable to get issuer certificate'],
  4: ['UNABLE_TO_DECRYPT_CERT_SIGNATURE', "unable to decrypt certificate's signature"],
  6: ['UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY', 'unable to decode issuer public key'],
  7: ['CERT_SIGNATURE_FAILURE', 'certificate signature failure'],
  9: ['CERT_NOT_YET_VALID', 'certificate is not yet valid'],
  10: ['CERT_HAS_EXPIRED', 'certificate has expired'],
  13: ['ERROR_IN_CERT_NOT_BEFORE_FIELD', "format error in certificate's notBefore field"],
  14: ['ERROR_IN_CERT_NOT_AFTER_FIELD', "format error in certificate's notAfter field"],
  17: ['OUT_OF_MEM', 'out of memory'],
  18: ['DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate'],
  19: ['SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain'],
  20: ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'unable to get local issuer certificate'],
  21: ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify the first certificate'],
  22: ['CERT_CHAIN_TOO_LONG', 'certificate chain too long'],
  23: ['CERT_REVOKED', 'certificate revoked'],
  25: ['PATH_LENGTH_EXCEEDED', 'path length constraint exceeded'],
  26: ['INVALID_PURPOSE', 'unsuitable certificate purpose'],
  27: ['CERT_UNTRUSTED', 'certificate not trusted'],
  28: ['CERT_REJECTED', 'certificate rejected'],
  79: ['INVALID_CA', 'invalid CA certificate'],
};
