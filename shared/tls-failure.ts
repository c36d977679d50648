/**
 * The names that the certificate of a server is for, when it was refused because it is for another one; null: that is not
 * the problem. The text of Node's own error has the addresses only when an address was dialled.
 */
export function namesOfOther(error: unknown): readonly string[] | null {
  const { code, cert } = (error ?? {}) as { code?: unknown; cert?: { subjectaltname?: unknown } };
  if (code !== 'ERR_TLS_CERT_ALTNAME_INVALID' || typeof cert?.subjectaltname !== 'string') return null;
  return cert.subjectaltname.split(', ').flatMap((name) => /^(?:DNS|IP Address):([\w.:*-]+)$/.exec(name)?.[1] ?? []);
}

/**
 * Whether an error of Node's TLS says that a peer's certificate was not accepted, or that the handshake failed for another
 * reason of TLS. Errors of the network (refused, reset, timed out) are not.
 */
export function isTlsFailure(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return (
    typeof code === 'string' &&
    /CERT|SIGNATURE|ALTNAME|ERR_TLS|ERR_SSL|VERIFY|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH/.test(code)
  );
}
