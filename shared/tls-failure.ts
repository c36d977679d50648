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
