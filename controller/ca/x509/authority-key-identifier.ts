import { x509 } from './x509.js';

/**
 * The extension by which a verifier finds the issuer's certificate: the key identifier that this certificate states. Another
 * CA may have derived it in any way (RFC 5280, section 4.2.1.2), and a verifier refuses a leaf that states another one. Only
 * for an issuer without one it is derived from the key.
 */
export async function authorityKeyIdentifier(issuer: x509.X509Certificate): Promise<x509.Extension> {
  const stated = issuer.getExtension(x509.SubjectKeyIdentifierExtension);
  if (stated === null) return x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey);
  return new x509.AuthorityKeyIdentifierExtension(stated.keyId);
}
