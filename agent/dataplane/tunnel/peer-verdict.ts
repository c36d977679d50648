import { CulvertError } from '../../../shared/errors.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import { spiffeIdOf } from '../../../shared/pki/spiffe-id-of-certificate.js';
import type { Reason } from '../../../shared/reasons.js';
import { handshakeReason, refusedHandshakeOf, type RefusedHandshake } from '../connection/failure-reasons.js';

/** What a TLS handshake that is done has shown of the peer, whichever TLS did it. */
export type PeerProof = {
  /** Empty for none. */
  readonly alpn: string;
  readonly isResumed: boolean;
  /** In DER; null: it showed none. */
  readonly certificate: Uint8Array | null;
  /** Why OpenSSL does not trust the certificate (openssl-verification-options(1)); null: it does, or there is none. */
  readonly distrust: { readonly code: string } | null;
};

/** Why a server refuses a peer: how that is counted, and what the peer is told. */
export type Rejection = { readonly kind: RefusedHandshake; readonly reason: Reason };

/** For a server: the peer's identity, which is one of the own trust domain, or why it is refused. */
export function verdictOn(proof: PeerProof, ownIdentity: SpiffeId): SpiffeId | Rejection {
  // A resumed session has no certificate to check. Tickets are off, so this is a second line of defence.
  if (proof.alpn !== 'h2' || proof.isResumed) return rejected('tls_failed');
  if (proof.certificate === null) return rejected('no_certificate');
  if (proof.distrust !== null) return distrusted(proof.distrust.code);
  const identity = spiffeIdOf(proof.certificate);
  if (identity === null) return rejected('wrong_identity', 'PEER_IDENTITY');
  const isOfOurDomain = parseSpiffeId(identity)?.trustDomain === parseSpiffeId(ownIdentity)?.trustDomain;
  return isOfOurDomain ? identity : rejected('wrong_identity', 'PEER_IDENTITY');
}

/** For a client: undefined when a trusted certificate proves exactly that identity. */
export function identityError(expected: SpiffeId, certificate: Uint8Array): Error | undefined {
  const proved = spiffeIdOf(certificate);
  if (proved === expected) return undefined;
  return new CulvertError({
    code: 'PEER_IDENTITY',
    message: `expected ${expected}, the certificate proves ${proved ?? 'no identity'}`,
  });
}

function rejected(kind: RefusedHandshake, reason: Reason = 'TLS_HANDSHAKE'): Rejection {
  return { kind, reason };
}

function distrusted(code: string): Rejection {
  return rejected(refusedHandshakeOf(code) ?? 'untrusted_certificate', handshakeReason(code));
}
