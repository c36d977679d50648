import { namesIn } from '../../../controller/ca/leaf-names.js';
import { parseCsr } from '../../../controller/ca/x509/parsed-certificate-request.js';
import { IssuerServer, type GivenAnswer, type HeardRequest } from './issuer-server.js';
import { SigningCa } from './signing-ca.js';

type Condition = { type: string; status: string; reason?: string; message?: string };
type Stored = {
  metadata: { name: string; labels: Record<string, string>; creationTimestamp: string };
  spec: { request: string; duration: string; usages: string[]; issuerRef: Record<string, string>; isCA: boolean };
  status: { conditions: Condition[]; certificate?: string; ca?: string };
  looks: number;
};

const collection = '/apis/cert-manager.io/v1/namespaces/culvert/certificaterequests';

/**
 * A server that speaks the part of the Kubernetes API that an issuer uses, with cert-manager and a CA issuer behind it: a
 * request is approved, then signed with the names and usages of its CSR and spec, some looks later.
 */
export class FakeKubernetes implements AsyncDisposable {
  readonly server: IssuerServer;
  readonly ca: SigningCa;
  readonly requests = new Map<string, Stored>();
  token = 'token-1';
  /** How often a request is looked at before it is signed. */
  looksUntilSigned = 1;
  outcome: 'signed' | 'denied' | 'invalid' | 'failed' | 'unapproved' = 'signed';
  status: { code: number; reason: string; message: string } | null = null;
  /** Whether `status.ca` is the root; else it is empty, as with some issuers. */
  givesRoot = true;
  #made = 0;

  private constructor(server: IssuerServer, ca: SigningCa) {
    this.server = server;
    this.ca = ca;
    server.answer = (request) => this.#answer(request);
  }

  static async start(trustDomain: string): Promise<FakeKubernetes> {
    return new FakeKubernetes(await IssuerServer.start(), await SigningCa.create(trustDomain));
  }

  /** A request that another process has made. */
  leave(name: string, domain: string): void {
    const metadata = {
      name,
      labels: { 'culvert.dev/trust-domain': domain },
      creationTimestamp: new Date().toISOString(),
    };
    const spec = { request: '', duration: '', usages: [], issuerRef: {}, isCA: false };
    this.requests.set(name, { metadata, spec, status: { conditions: [] }, looks: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }

  async #answer({ method, path, headers, body }: HeardRequest): Promise<GivenAnswer> {
    if (headers.authorization !== `Bearer ${this.token}`) return status(401, 'Unauthorized', 'Unauthorized');
    if (this.status !== null) return status(this.status.code, this.status.reason, this.status.message);
    const url = new URL(path, this.server.url);
    if (url.pathname === collection && method === 'POST')
      return this.#create(body as Stored & { metadata: { generateName: string } });
    if (url.pathname === collection && method === 'GET') {
      const [key = '', value = ''] = (url.searchParams.get('labelSelector') ?? '').split('=');
      return {
        status: 200,
        body: { items: [...this.requests.values()].filter(({ metadata }) => metadata.labels[key] === value) },
      };
    }
    const name = url.pathname.slice(collection.length + 1);
    const stored = this.requests.get(name);
    if (stored === undefined) return status(404, 'NotFound', `certificaterequests.cert-manager.io "${name}" not found`);
    if (method === 'DELETE') {
      this.requests.delete(name);
      return { status: 200, body: { kind: 'Status', status: 'Success' } };
    }
    if (++stored.looks >= this.looksUntilSigned) await this.#settle(stored);
    return { status: 200, body: stored };
  }

  #create(given: Stored & { metadata: { generateName: string } }): GivenAnswer {
    const name = `${given.metadata.generateName}${(this.#made++).toString(36).padStart(5, '0')}`;
    const metadata = { name, labels: given.metadata.labels, creationTimestamp: new Date().toISOString() };
    this.requests.set(name, { ...given, metadata, status: { conditions: [] }, looks: 0 });
    return { status: 201, body: { ...given, metadata } };
  }

  async #settle({ spec, status: state }: Stored): Promise<void> {
    if (this.outcome === 'unapproved') return;
    if (this.outcome === 'denied') {
      state.conditions = [
        { type: 'Denied', status: 'True', reason: 'policy.cert-manager.io', message: 'no policy allows it' },
        { type: 'Ready', status: 'False', reason: 'Denied', message: 'The CertificateRequest was denied' },
      ];
      return;
    }
    const approved = { type: 'Approved', status: 'True', reason: 'cert-manager.io' };
    if (this.outcome === 'invalid') {
      state.conditions = [approved, { type: 'InvalidRequest', status: 'True', message: 'bad usages' }];
      return;
    }
    if (this.outcome === 'failed') {
      state.conditions = [
        approved,
        { type: 'Ready', status: 'False', reason: 'Failed', message: 'the CA key is gone' },
      ];
      return;
    }
    const csrPem = Buffer.from(spec.request, 'base64').toString();
    const chain = await this.ca.sign(csrPem, {
      names: namesIn((await parseCsr(csrPem)).extensions).map((name) => {
        const [kind = '', value = ''] = name.split(' ');
        if (kind === 'uri') return { type: 'url', value } as const;
        return kind === 'dns' ? ({ type: 'dns', value } as const) : ({ type: 'ip', value: addressOf(value) } as const);
      }),
      usages: (['server', 'client'] as const).filter((usage) => spec.usages.includes(`${usage} auth`)),
      ttlMs: Number.parseInt(spec.duration, 10) * 1000,
      backdateMs: 0,
    });
    state.certificate = Buffer.from(chain).toString('base64');
    if (this.givesRoot) state.ca = Buffer.from(this.ca.root.rootPem).toString('base64');
    state.conditions = [approved, { type: 'Ready', status: 'True', reason: 'Issued' }];
  }
}

function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  if (bytes.length === 4) return [...bytes].join('.');
  return (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
}

function status(code: number, reason: string, message: string): GivenAnswer {
  return { status: code, body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, message, code } };
}
