import { z } from 'zod';
import { CulvertError } from '../../../shared/errors.js';
import { SerialQueue } from '../../../shared/serial-queue.js';
import type { HttpsServer } from './https-server.js';
import { issuerError } from './issuer-error.js';
import { readSecret } from './secret-file.js';
import { refusalOf } from './vault-refusal.js';

export type VaultLogin = {
  readonly method: 'token' | 'approle' | 'kubernetes';
  /** Where the method is mounted. */
  readonly mount: string;
  /** The role_id of AppRole, the role of Kubernetes; null for a token. */
  readonly role: string | null;
  /** File, or `credential:NAME`, with the token, the secret_id, or the JWT of a service account. */
  readonly credential: string | null;
};

type Lease = {
  readonly token: string;
  /** What the file had when it was obtained. */
  readonly secret: string;
  readonly isRenewable: boolean;
  /** By the process's clock, milliseconds; infinite: it does not end. */
  readonly renewAtMs: number;
  readonly endsAtMs: number;
  readonly lifeMs: number;
};

const token = z.string().min(1).max(16_384);
const seconds = z.number().int().nonnegative();
const authSchema = z.object({
  auth: z.object({ client_token: token, lease_duration: seconds, renewable: z.boolean() }),
});
const renewedSchema = z.object({ auth: z.object({ lease_duration: seconds, renewable: z.boolean() }) });
const lookupSchema = z.object({ data: z.object({ ttl: seconds, renewable: z.boolean().optional() }) });

/**
 * The token with which Vault is asked. A token is renewed at half of its life; where there is a login, it is done again when
 * a renewal no longer gives the whole life (its `max_ttl` is near) or is refused. The file with the credential is read again
 * for each login, and a changed token in it is taken at once. Errors: codes of `IssuerCode`.
 */
export class VaultSession {
  readonly #server: HttpsServer;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #login: VaultLogin;
  readonly #monotonicMs: () => number;
  readonly #queue = new SerialQueue();
  #lease: Lease | null = null;

  constructor(init: {
    readonly server: HttpsServer;
    /** The namespace's. */
    readonly headers: Readonly<Record<string, string>>;
    readonly login: VaultLogin;
    readonly monotonicMs?: () => number;
  }) {
    this.#server = init.server;
    this.#headers = init.headers;
    this.#login = init.login;
    this.#monotonicMs = init.monotonicMs ?? (() => performance.now());
  }

  /** A token that counts, as far as is known. One login or renewal at a time; others wait for it. */
  token(signal: AbortSignal): Promise<string> {
    return this.#queue.run(async () => {
      if (signal.aborted) throw lateLogin();
      const now = this.#monotonicMs();
      const lease = this.#lease;
      const isChanged = this.#login.method === 'token' && lease?.secret !== (await readSecret(this.#login.credential));
      if (lease === null || isChanged || now >= lease.endsAtMs) return this.#obtain(signal);
      if (now < lease.renewAtMs) return lease.token;
      return this.#renew(lease, signal);
    });
  }

  /** Vault refused this token: the next caller gets another one. */
  forget(refused: string): void {
    if (this.#lease?.token === refused) this.#lease = null;
  }

  /** Rejects when the token will end and nothing can be done about it here. */
  async maintain(signal: AbortSignal): Promise<void> {
    await this.token(signal);
    const lease = this.#lease;
    if (this.#login.method !== 'token' || lease === null || lease.endsAtMs === Number.POSITIVE_INFINITY) return;
    const leftMs = lease.endsAtMs - this.#monotonicMs();
    if (lease.isRenewable && leftMs > lease.lifeMs / 4) return;
    throw issuerError(
      'ISSUER_CREDENTIAL',
      `the token for Vault ends in ${Math.max(0, Math.round(leftMs / 60_000))} minutes, and cannot be renewed any further`,
      'write a new one into the file of --issuer-credential-file: vault token create -period=24h -policy=culvert; a periodic token can be renewed without end',
    );
  }

  async #obtain(signal: AbortSignal): Promise<string> {
    const { method, mount, role, credential } = this.#login;
    const secret = await readSecret(credential);
    if (method === 'token') {
      const body = await this.#ask({ method: 'GET', path: '/v1/auth/token/lookup-self', token: secret, signal });
      const { ttl, renewable = false } = parse(lookupSchema, body).data;
      return this.#hold({ token: secret, secret, isRenewable: renewable, lifeMs: ttl * 1000 });
    }
    const given = method === 'approle' ? { role_id: role, secret_id: secret } : { role, jwt: secret };
    const body = await this.#ask({ method: 'POST', path: `/v1/auth/${mount}/login`, body: given, signal });
    const { client_token: obtained, lease_duration: lifeSeconds, renewable } = parse(authSchema, body).auth;
    return this.#hold({ token: obtained, secret, isRenewable: renewable, lifeMs: lifeSeconds * 1000 });
  }

  async #renew(lease: Lease, signal: AbortSignal): Promise<string> {
    const hasLogin = this.#login.method !== 'token';
    try {
      if (!lease.isRenewable) throw issuerError('ISSUER_DENIED', 'the token cannot be renewed', '');
      const body = await this.#ask({
        method: 'POST',
        path: '/v1/auth/token/renew-self',
        token: lease.token,
        body: {},
        signal,
      });
      const { lease_duration: lifeSeconds, renewable } = parse(renewedSchema, body).auth;
      const lifeMs = lifeSeconds * 1000;
      // Its max_ttl is near: what is left shrinks from renewal to renewal.
      if (hasLogin && lifeMs < lease.lifeMs / 2) return await this.#obtain(signal);
      return this.#hold({ ...lease, isRenewable: renewable, lifeMs, fullLifeMs: lease.lifeMs });
    } catch (error) {
      if (hasLogin && isDenied(error)) return this.#obtain(signal);
      // It counts until it ends, and is tried again with the next request.
      return lease.token;
    }
  }

  #hold(
    obtained: Pick<Lease, 'token' | 'secret' | 'isRenewable' | 'lifeMs'> & { readonly fullLifeMs?: number },
  ): string {
    const now = this.#monotonicMs();
    const { lifeMs, fullLifeMs = lifeMs, ...lease } = obtained;
    const isEndless = lifeMs === 0;
    this.#lease = {
      ...lease,
      lifeMs: Math.max(lifeMs, fullLifeMs),
      endsAtMs: isEndless ? Number.POSITIVE_INFINITY : now + lifeMs,
      renewAtMs: isEndless ? Number.POSITIVE_INFINITY : now + lifeMs / 2,
    };
    return lease.token;
  }

  async #ask(o: {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly token?: string;
    readonly body?: unknown;
    readonly signal: AbortSignal;
  }): Promise<unknown> {
    const { method, path, body, signal } = o;
    const headers = { ...this.#headers, ...(o.token === undefined ? {} : { 'x-vault-token': o.token }) };
    const answer = await this.#server.ask({ method, path, headers, signal, ...(body === undefined ? {} : { body }) });
    if (answer.status === 200) return answer.body;
    const refusal = refusalOf(answer, `${method} ${path}`);
    const isLogin = refusal.code === 'ISSUER_DENIED' || refusal.code === 'ISSUER_REFUSED';
    throw isLogin ? this.#notAccepted(refusal) : refusal;
  }

  #notAccepted(cause: CulvertError): CulvertError {
    const hints = {
      token: 'write a token that counts into the file of --issuer-credential-file',
      approle:
        'check --vault-auth-role (the role_id), the secret_id in the file, and how often and how long it may be used',
      kubernetes:
        'check --vault-auth-role, and that this role is bound to the service account and namespace of the controller',
    } as const;
    return issuerError(
      'ISSUER_CREDENTIAL',
      `Vault does not accept the credential (${this.#login.method}): ${cause.message}`,
      hints[this.#login.method],
      cause,
    );
  }
}

function lateLogin(): CulvertError {
  return issuerError('ISSUER_BUSY', 'the login to Vault did not end in time', 'see how long it takes to answer');
}

function isDenied(error: unknown): boolean {
  return error instanceof CulvertError && ['ISSUER_DENIED', 'ISSUER_CREDENTIAL', 'ISSUER_REFUSED'].includes(error.code);
}

function parse<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const read = schema.safeParse(body);
  if (read.success) return read.data;
  throw issuerError(
    'ISSUER_ANSWER',
    'the answer of Vault to a login lacks what a login gives',
    'check that the address is that of Vault itself',
  );
}
