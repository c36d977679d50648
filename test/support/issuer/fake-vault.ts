import { randomBytes } from 'node:crypto';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { IssuerServer, type GivenAnswer, type HeardRequest } from './issuer-server.js';
import { SigningCa } from './signing-ca.js';

const kinds = { workload: ['server', 'client'], node: ['client'], server: ['server'] } as const;

type Token = { endsAtMs: number; isRenewable: boolean; maxEndsAtMs: number; canSign: boolean };

/**
 * A server that speaks Vault's HTTP API as far as an issuer uses it: tokens and logins, `sign/ROLE` with the rules of roles as
 * issuers.md makes them, `cert/ca_chain`, and its errors.
 */
export class FakeVault implements AsyncDisposable {
  readonly server: IssuerServer;
  readonly ca: SigningCa;
  readonly tokens = new Map<string, Token>();
  /** What logins accept. */
  readonly roleId = 'role-id-1';
  secretId = 'secret-id-1';
  jwt = 'jwt-1';
  isSealed = false;
  /** Of the tokens that a login gives. */
  lifeMs = 3_600_000;
  maxLifeMs = 24 * 3_600_000;
  namespace: string | null = null;
  /** What a role refuses; null: nothing. */
  refusal: string | null = null;
  status: number | null = null;

  private constructor(server: IssuerServer, ca: SigningCa) {
    this.server = server;
    this.ca = ca;
    server.answer = (request) => this.#answer(request);
  }

  static async start(trustDomain: string): Promise<FakeVault> {
    return new FakeVault(await IssuerServer.start(), await SigningCa.create(trustDomain));
  }

  /** A token as `vault token create` makes one. `lifeMs` 0: it never ends. */
  token({
    lifeMs = 0,
    maxLifeMs = 0,
    isRenewable = true,
    canSign = true,
  }: { lifeMs?: number; maxLifeMs?: number; isRenewable?: boolean; canSign?: boolean } = {}): string {
    const text = `hvs.${randomBytes(12).toString('hex')}`;
    const now = Date.now();
    const endsAtMs = lifeMs === 0 ? Number.POSITIVE_INFINITY : now + lifeMs;
    this.tokens.set(text, { endsAtMs, isRenewable, canSign, maxEndsAtMs: now + (maxLifeMs || lifeMs) });
    return text;
  }

  signed(): number {
    return this.server.heard.filter(({ path }) => path.includes('/sign/')).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }

  async #answer(request: HeardRequest): Promise<GivenAnswer> {
    const { method, path, headers } = request;
    if (this.status !== null) return { status: this.status, body: { errors: ['as the test wants it'] } };
    if (this.isSealed) return { status: 503, body: { errors: ['Vault is sealed'] } };
    if ((headers['x-vault-namespace'] ?? null) !== this.namespace) {
      return { status: 404, body: { errors: [`no handler for route "${path.slice(4)}". route entry not found.`] } };
    }
    const body = (request.body ?? {}) as Record<string, string>;
    if (method === 'GET' && path === '/v1/pki/cert/ca_chain') {
      const chain = this.ca.issuing.chainPem + this.ca.root.rootPem;
      return { status: 200, body: { data: { certificate: chain, ca_chain: chain } } };
    }
    if (path === '/v1/auth/approle/login') {
      if (body['role_id'] !== this.roleId || body['secret_id'] !== this.secretId) {
        return { status: 400, body: { errors: ['invalid role or secret ID'] } };
      }
      return this.#login();
    }
    if (path === '/v1/auth/kubernetes/login') {
      return body['jwt'] === this.jwt ? this.#login() : { status: 403, body: { errors: ['permission denied'] } };
    }
    const text = String(headers['x-vault-token'] ?? '');
    const token = this.tokens.get(text);
    if (token === undefined || token.endsAtMs <= Date.now()) {
      return { status: 403, body: { errors: ['permission denied', 'invalid token'] } };
    }
    if (path === '/v1/auth/token/lookup-self') {
      const ttl = token.endsAtMs === Number.POSITIVE_INFINITY ? 0 : Math.floor((token.endsAtMs - Date.now()) / 1000);
      return { status: 200, body: { data: { ttl, renewable: token.isRenewable } } };
    }
    if (path === '/v1/auth/token/renew-self') {
      token.endsAtMs = Math.min(Date.now() + this.lifeMs, token.maxEndsAtMs);
      const lease = Math.max(0, Math.floor((token.endsAtMs - Date.now()) / 1000));
      return { status: 200, body: { auth: { client_token: text, lease_duration: lease, renewable: true } } };
    }
    if (!token.canSign) return { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } };
    return this.#sign(path, body);
  }

  #login(): GivenAnswer {
    const { lifeMs, maxLifeMs } = this;
    const clientToken = this.token({ lifeMs, maxLifeMs });
    const auth = { client_token: clientToken, lease_duration: Math.floor(lifeMs / 1000), renewable: true };
    return { status: 200, body: { auth } };
  }

  async #sign(path: string, body: Record<string, string>): Promise<GivenAnswer> {
    const [, kind] = /^\/v1\/pki\/sign\/culvert-(workload|node|server)$/.exec(path) ?? [];
    if (kind === undefined) return { status: 400, body: { errors: ['unknown role: no'] } };
    if (this.refusal !== null) return { status: 400, body: { errors: [this.refusal] } };
    const list = (text = ''): string[] => text.split(',').filter((each) => each !== '');
    const chain = await this.ca.sign(body['csr'] ?? '', {
      names: [
        ...list(body['uri_sans']).map((value) => ({ type: 'url', value }) as const),
        ...list(body['alt_names']).map((value) => ({ type: 'dns', value }) as const),
        ...list(body['ip_sans']).map((value) => ({ type: 'ip', value }) as const),
      ],
      usages: kinds[kind as keyof typeof kinds],
      ttlMs: Number.parseInt(body['ttl'] ?? '', 10) * 1000,
      backdateMs: 30_000,
    });
    const [certificate = '', ...issuers] = splitCertificates(chain);
    return {
      status: 200,
      body: {
        request_id: 'r',
        lease_id: '',
        data: {
          certificate,
          issuing_ca: issuers[0],
          ca_chain: [...issuers, this.ca.root.rootPem],
          serial_number: '01',
        },
        warnings: null,
      },
    };
  }
}
