import { z } from 'zod';
import type { CulvertError } from '../../../shared/errors.js';
import type { Answered, HttpsServer } from './https-server.js';
import { issuerError, IssuerUnready, quoted } from './issuer-error.js';
import { readSecret } from './secret-file.js';

const statusSchema = z.object({ kind: z.literal('Status'), message: z.string(), reason: z.string().optional() });

type Asked = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** After the collection: empty, or `/NAME`. */
  readonly item?: string;
  readonly query?: string;
  readonly body?: unknown;
  readonly signal: AbortSignal;
};

/**
 * CertificateRequests of one namespace, through the Kubernetes API. The token of the service account is read again for each
 * request, because Kubernetes replaces it about once an hour. Errors: codes of `IssuerCode`.
 */
export class CertificateAsk {
  readonly #server: HttpsServer;
  readonly #namespace: string;
  readonly #tokenFile: string;

  constructor(init: { readonly server: HttpsServer; readonly namespace: string; readonly tokenFile: string }) {
    this.#server = init.server;
    this.#namespace = init.namespace;
    this.#tokenFile = init.tokenFile;
  }

  create(request: object, signal: AbortSignal): Promise<unknown> {
    return this.#ask({ method: 'POST', body: request, signal });
  }

  read(name: string, signal: AbortSignal): Promise<unknown> {
    return this.#ask({ method: 'GET', item: `/${encodeURIComponent(name)}`, signal });
  }

  list(labelSelector: string, limit: number, signal: AbortSignal): Promise<unknown> {
    const query = `?labelSelector=${encodeURIComponent(labelSelector)}&limit=${limit}`;
    return this.#ask({ method: 'GET', query, signal });
  }

  /** Also when it is gone already. */
  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#ask({ method: 'DELETE', item: `/${encodeURIComponent(name)}`, signal }, [404]);
  }

  close(): void {
    this.#server.close();
  }

  async #ask(asked: Asked, alsoFine: readonly number[] = []): Promise<unknown> {
    const { method, item = '', query = '', body, signal } = asked;
    const collection = `/apis/cert-manager.io/v1/namespaces/${encodeURIComponent(this.#namespace)}/certificaterequests`;
    const headers = { authorization: `Bearer ${await readSecret(this.#tokenFile)}` };
    const answer = await this.#server.ask({
      method,
      path: collection + item + query,
      headers,
      signal,
      ...(body === undefined ? {} : { body }),
    });
    if ((answer.status >= 200 && answer.status < 300) || alsoFine.includes(answer.status)) return answer.body;
    throw this.#refusal(answer, method);
  }

  #refusal({ status, body, retryAfterMs }: Answered, method: Asked['method']): CulvertError {
    const read = statusSchema.safeParse(body);
    const said = read.success ? `: ${quoted(read.data.message)}` : '';
    const what = `the Kubernetes API answered ${status} to ${method} of a CertificateRequest in ${this.#namespace}${said}`;
    if (status === 401) {
      return issuerError('ISSUER_CREDENTIAL', what, 'name a token that counts with --issuer-credential-file');
    }
    if (status === 403) {
      return issuerError(
        'ISSUER_DENIED',
        what,
        `allow the service account "create", "get", "list" and "delete" of certificaterequests.cert-manager.io in the namespace ${this.#namespace}`,
      );
    }
    if (status === 404) {
      return issuerError(
        'ISSUER_REFUSED',
        what,
        'check --cert-manager-namespace, that cert-manager is installed, and that nothing else deletes the requests',
      );
    }
    if (status === 409 || status === 429) {
      const hint = 'see the load of the Kubernetes API';
      return new IssuerUnready({ code: 'ISSUER_BUSY', message: what, hint, retryAfterMs });
    }
    if (status >= 500) {
      const hint = 'see the log of the API server and of the webhook';
      return new IssuerUnready({ code: 'ISSUER_FAILED', message: what, hint, retryAfterMs });
    }
    return issuerError('ISSUER_REFUSED', what, 'see what the message says of the request');
  }
}
