/** Shorter ones would blank out ordinary words. */
const leastSecretLength = 8;
const longestToldMs = 10 * 60_000;

/**
 * Takes the secrets of a request out of what its answer says, because some servers and proxies quote the request in their errors,
 * and those end in logs and alarms. It is no defence against a server that hides them: that one has them already.
 */
export function withoutSecrets(secrets: readonly string[]): (text: string) => string {
  const long = secrets.filter((secret) => secret.length >= leastSecretLength);
  return (text) => long.reduce((left, secret) => left.replaceAll(secret, '[credential]'), text);
}

/** The secrets of a request: the values of its headers that prove who asks, and those fields of a login that do. */
export function secretsOf(headers: Readonly<Record<string, string>>, body: unknown): string[] {
  const fields = (body ?? {}) as Readonly<Record<string, unknown>>;
  return [
    headers['x-vault-token'],
    headers['authorization']?.replace(/^Bearer /, ''),
    fields['secret_id'],
    fields['jwt'],
  ].filter((secret) => typeof secret === 'string');
}

/**
 * Milliseconds to wait, from a Retry-After header (RFC 9110 section 10.2.3), ten minutes at most; null: it says nothing that can
 * be understood.
 */
export function retryAfterMsOf(header: string | undefined, nowMs: number): number | null {
  const text = header?.trim() ?? '';
  const isDate = /^[A-Za-z]+,? /.test(text);
  const waitMs = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : isDate ? Date.parse(text) - nowMs : Number.NaN;
  return Number.isNaN(waitMs) ? null : Math.min(Math.max(waitMs, 0), longestToldMs);
}
