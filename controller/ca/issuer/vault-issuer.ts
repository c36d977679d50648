import { z } from 'zod';
import type { CulvertError } from '../../../shared/errors.js';
import type { ExternalIssuer, Wanted } from './external-issuer.js';
import type { Answered, HttpsServer } from './https-server.js';
import { issuerError } from './issuer-error.js';
import { refusalOf } from './vault-refusal.js';
import type { VaultSession } from './vault-session.js';

const pem = z.string().max(64 * 1024);
const signedSchema = z.object({
  data: z.object({ certificate: pem.min(1), issuing_ca: pem.optional(), ca_chain: z.array(pem).max(16).nullish() }),
});
const chainSchema = z.object({
  data: z.object({
    ca_chain: z
      .string()
      .max(256 * 1024)
      .nullish(),
    certificate: pem,
  }),
});

/**
 * Vault's PKI secrets engine (or OpenBao's). Uses `sign/ROLE-KIND`, not `sign-verbatim`: the role limits what the controller can
 * have signed, so that one who steals its token gets names, usages and lifetimes of this mesh only. Names go as parameters of
 * the request, which a role with `use_csr_sans=false` takes in place of those that an agent wrote.
 */
export class VaultIssuer implements ExternalIssuer {
  readonly kind = 'vault';
  readonly place: string;
  readonly #server: HttpsServer;
  readonly #session: VaultSession;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #mount: string;
  readonly #role: string;

  constructor(init: {
    readonly place: string;
    readonly server: HttpsServer;
    readonly session: VaultSession;
    /** The namespace's. */
    readonly headers: Readonly<Record<string, string>>;
    readonly mount: string;
    /** What the names of its roles begin with: ROLE-workload, ROLE-node, ROLE-server. */
    readonly role: string;
  }) {
    this.place = init.place;
    this.#server = init.server;
    this.#session = init.session;
    this.#headers = init.headers;
    this.#mount = init.mount;
    this.#role = init.role;
  }

  async sign(wanted: Wanted, signal: AbortSignal): Promise<string> {
    const path = `/v1/${this.#mount}/sign/${encodeURIComponent(`${this.#role}-${wanted.kind}`)}`;
    const body = {
      csr: wanted.csrPem,
      uri_sans: wanted.uris.join(','),
      alt_names: wanted.dnsNames.join(','),
      ip_sans: wanted.ipAddresses.join(','),
      exclude_cn_from_sans: true,
      ttl: `${Math.floor(wanted.ttlMs / 1000)}s`,
      format: 'pem',
    };
    const answer = await this.#asOneself(signal, (headers) =>
      this.#server.ask({ method: 'POST', path, headers, body, signal }),
    );
    if (answer.status !== 200) throw this.#refusal(answer, path);
    const read = signedSchema.safeParse(answer.body);
    if (!read.success) throw unreadable('sign');
    const { certificate, issuing_ca: issuingPem = '', ca_chain: chain } = read.data.data;
    return [certificate, issuingPem, ...(chain ?? [])].join('\n');
  }

  maintain(signal: AbortSignal): Promise<void> {
    return this.#session.maintain(signal);
  }

  async authorities(signal: AbortSignal): Promise<string> {
    const path = `/v1/${this.#mount}/cert/ca_chain`;
    const answer = await this.#server.ask({ method: 'GET', path, headers: this.#headers, signal });
    if (answer.status !== 200) throw refusalOf(answer, `GET ${path}`);
    const read = chainSchema.safeParse(answer.body);
    if (!read.success) throw unreadable('cert/ca_chain');
    // Newer versions have both fields; "certificate" is the chain in older ones.
    return `${read.data.data.ca_chain ?? ''}\n${read.data.data.certificate}`;
  }

  close(): void {
    this.#server.close();
  }

  /** A token may have been revoked: one that is refused is replaced once. */
  async #asOneself(
    signal: AbortSignal,
    ask: (headers: Readonly<Record<string, string>>) => Promise<Answered>,
  ): Promise<Answered> {
    const token = await this.#session.token(signal);
    const answer = await ask({ ...this.#headers, 'x-vault-token': token });
    if (answer.status !== 403) return answer;
    this.#session.forget(token);
    const other = await this.#session.token(signal);
    return other === token ? answer : ask({ ...this.#headers, 'x-vault-token': other });
  }

  #refusal(answer: Answered, path: string): CulvertError {
    const refusal = refusalOf(answer, `POST ${path}`);
    if (refusal.code !== 'ISSUER_DENIED') return refusal;
    const rule = `path "${path.slice('/v1/'.length)}" { capabilities = ["update"] }`;
    return issuerError(
      'ISSUER_DENIED',
      refusal.message,
      `check --vault-mount and --vault-role, and give the policy of the controller's token: ${rule}`,
    );
  }
}

function unreadable(what: string): CulvertError {
  return issuerError(
    'ISSUER_ANSWER',
    `the answer of Vault to ${what} lacks the certificate`,
    'check that --vault-mount is a mount of the PKI secrets engine',
  );
}
