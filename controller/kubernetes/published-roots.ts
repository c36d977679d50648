import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';

const timeoutMs = 10_000;
/** An object that another wrote over is right again after this time. */
const againAfterMs = 600_000;

/** An object of the cluster in which the roots of the mesh are. */
type RootsPlace = {
  /** For people: `the ConfigMap culvert-ca`. */
  readonly name: string;
  readonly path: string;
  readonly type: string;
  /** Of a PATCH that writes these roots (PEM). */
  readonly body: (rootsPem: string) => object;
};

/** A ConfigMap, where agents find them before they join. */
export function rootsForAgents(namespace: string): RootsPlace {
  return {
    name: 'the ConfigMap culvert-ca',
    path: `/api/v1/namespaces/${namespace}/configmaps/culvert-ca`,
    type: 'application/merge-patch+json',
    body: (rootsPem) => ({ data: { 'ca.crt': rootsPem } }),
  };
}

/** The webhook that asks this controller about rules, by which the API server verifies it. `path`: where it asks. */
export function rootsForWebhook(name: string, path: string): RootsPlace {
  return {
    name: `the ValidatingWebhookConfiguration ${name}`,
    path: `/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${name}`,
    type: 'application/strategic-merge-patch+json',
    body: (rootsPem) => ({
      webhooks: [
        {
          name: 'rules.culvert.dev',
          clientConfig: { caBundle: Buffer.from(rootsPem).toString('base64'), service: { path } },
        },
      ],
    }),
  };
}

/** Keeps the roots of the mesh in an object of the cluster. */
export class PublishedRoots {
  readonly #api: KubernetesApi;
  readonly #place: RootsPlace;
  readonly #rootsPem: () => string;
  readonly #log: Log;
  readonly #elapsedMs: () => number;
  #published: { readonly pem: string; readonly atMs: number } | null = null;
  #problem: string | null = null;

  constructor(init: {
    readonly api: KubernetesApi;
    readonly place: RootsPlace;
    readonly rootsPem: () => string;
    readonly log: Log;
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#place = init.place;
    this.#rootsPem = init.rootsPem;
    this.#log = init.log;
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
  }

  /** Why the object may have no roots, or old ones; null: it has the present ones. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Writes them where they changed, or were written long ago. Never rejects: the owner calls it from time to time. */
  async publish(): Promise<void> {
    const pem = this.#rootsPem();
    const { pem: known, atMs } = this.#published ?? { pem: null, atMs: 0 };
    if (known === pem && this.#elapsedMs() - atMs < againAfterMs) return;
    const { name, path, type, body } = this.#place;
    try {
      const what = { method: 'PATCH', path, body: body(pem), type } as const;
      await this.#api.send(what, AbortSignal.timeout(timeoutMs));
      this.#published = { pem, atMs: this.#elapsedMs() };
      this.#problem = null;
    } catch (error) {
      const problem = `the roots of the mesh cannot be written into ${name}: ${describeError(error)}`;
      if (problem !== this.#problem)
        this.#log.error({ err: error, into: name }, 'the roots of the mesh cannot be published');
      this.#problem = problem;
    }
  }
}
