import { z } from 'zod';
import type { CulvertError } from '../../../shared/errors.js';
import type { Answered } from './https-server.js';
import { issuerError, IssuerUnready, quoted } from './issuer-error.js';

const errorsSchema = z.object({ errors: z.array(z.string()).max(100) });

/** What an answer of Vault other than 200 means. `asked`: the method and the path, for people. */
export function refusalOf({ status, body, retryAfterMs }: Answered, asked: string): CulvertError {
  const read = errorsSchema.safeParse(body);
  const said = read.success && read.data.errors.length > 0 ? `: ${quoted(read.data.errors.join('; '))}` : '';
  const what = `Vault answered ${status} to ${asked}${said}`;
  if (status === 503) {
    const hint = 'unseal it (vault operator unseal), or wait for the end of its maintenance';
    return new IssuerUnready({ code: 'ISSUER_SEALED', message: what, hint, retryAfterMs });
  }
  if (status === 403) {
    return issuerError(
      'ISSUER_DENIED',
      what,
      'its policy has to allow "update" on this path, and the token has to count',
    );
  }
  if (status === 429) {
    const hint = 'raise its rate limit quota for the controller';
    return new IssuerUnready({ code: 'ISSUER_BUSY', message: what, hint, retryAfterMs });
  }
  if (status >= 500 || status === 472 || status === 473) {
    return new IssuerUnready({ code: 'ISSUER_FAILED', message: what, hint: 'see its log', retryAfterMs });
  }
  return issuerError('ISSUER_REFUSED', what, hintFor(status, said));
}

function hintFor(status: number, said: string): string {
  if (status === 404 || /unsupported path|no handler|unknown role/.test(said)) {
    return 'check --vault-mount, --vault-role and --vault-namespace: there must be the roles ROLE-workload, ROLE-node and ROLE-server';
  }
  if (/common.?name/i.test(said)) return 'set require_cn=false on the role';
  if (/not allowed|not valid for this role|subject alternat/i.test(said)) {
    return 'the role must allow these names: allowed_uri_sans, allowed_domains, allow_ip_sans; issuers.md has the roles';
  }
  if (/notAfter|TTL/i.test(said)) {
    return 'the CA of the mount ends before the certificate would: give it another one, or shorten the lifetime in the settings of the controller';
  }
  return 'compare the role with those in issuers.md';
}
