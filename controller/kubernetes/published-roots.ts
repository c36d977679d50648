import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';

const configMap = 'culvert-ca';
const key = 'ca.crt';
const timeoutMs = 10_000;
/** A ConfigMap that another wrote over is right again after this time. */
const againAfterMs = 600_000;

/** Keeps the roots of the mesh in a ConfigMap, where agents find them before they join. */
export class PublishedRoots {
  readonly #api: KubernetesApi;
  readonly #namespace: string;
  readonly #rootsPem: () => string;
  readonly #log: Log;
  readonly #elapsedMs: () => number;
  #published: { readonly pem: string; readonly atMs: number } | null = null;
  #problem: string | null = null;

  constructor(init: {
    readonly api: KubernetesApi;
    readonly namespace: string;
    readonly rootsPem: () => string;
    readonly log: Log;
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#namespace = init.namespace;
    this.#rootsPem = init.rootsPem;
    this.#log = init.log;
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
  }

  /** Why agents may find no roots, or old ones; null: they find the present ones. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Writes them where they changed, or were written long ago. Never rejects: the owner calls it from time to time. */
  async publish(): Promise<void> {
    const pem = this.#rootsPem();
    const { pem: known, atMs } = this.#published ?? { pem: null, atMs: 0 };
    if (known === pem && this.#elapsedMs() - atMs < againAfterMs) return;
    const path = `/api/v1/namespaces/${this.#namespace}/configmaps/${configMap}`;
    const body = { data: { [key]: pem } };
    try {
      const what = { method: 'PATCH', path, body, type: 'application/merge-patch+json' } as const;
      await this.#api.send(what, AbortSignal.timeout(timeoutMs));
      this.#published = { pem, atMs: this.#elapsedMs() };
      this.#problem = null;
    } catch (error) {
      const problem = `the roots of the mesh cannot be written into the ConfigMap ${configMap}: ${describeError(error)}`;
      if (problem !== this.#problem) this.#log.error({ err: error }, 'the roots of the mesh cannot be published');
      this.#problem = problem;
    }
  }
}
