import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { webhookService, webhookRules } from '../install/webhook-objects.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** How often an owner calls {@link PublishedRoots.publish}: what another wrote over is right again after this time. */
export const publishEveryMs = 3000;
const timeoutMs = 10_000;
/** Where a role of an earlier version lets nothing be compared, it is written again after this time. */
const againUnseenMs = 10_000;
/** What others did is told for that long. */
const tellMs = 600_000;

/** An object of the cluster in which the roots of the mesh are. */
type RootsPlace = {
  /** For people: `the ConfigMap culvert-ca`. */
  readonly name: string;
  readonly path: string;
  readonly type: string;
  /** Of a PATCH that writes these roots (PEM). What it has is compared; what else is in the object is others' business. */
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

/**
 * The webhook that asks this controller about rules, by which the API server verifies it. `path`: where it asks. What it does
 * when it gets no answer, and about which namespaces it asks, is for people to say.
 */
export function rootsForWebhook(name: string, namespace: string, path: string): RootsPlace {
  return {
    name: `the ValidatingWebhookConfiguration ${name}`,
    path: `/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${name}`,
    type: 'application/strategic-merge-patch+json',
    body: (rootsPem) => ({
      webhooks: [
        {
          name: 'rules.culvert.dev',
          clientConfig: {
            caBundle: Buffer.from(rootsPem).toString('base64'),
            service: { ...webhookService(namespace), path },
          },
          rules: webhookRules(),
        },
      ],
    }),
  };
}

/** Keeps the roots of the mesh in an object of the cluster. */
export class PublishedRoots {
  readonly #api: Pick<KubernetesApi, 'get' | 'send'>;
  readonly #place: RootsPlace;
  readonly #rootsPem: () => string;
  readonly #log: Log;
  readonly #elapsedMs: () => number;
  #published: { readonly pem: string; readonly atMs: number } | null = null;
  /** When it was found otherwise than it was written. */
  #overwrittenMs: readonly number[] = [];
  #problem: string | null = null;

  constructor(init: {
    readonly api: Pick<KubernetesApi, 'get' | 'send'>;
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

  /** That others have changed it a short time ago, for people; null: none has. */
  get overwritten(): string | null {
    const times = this.#lately().length;
    if (times === 0) return null;
    const often = times === 1 ? 'once' : `${times} times`;
    return `${this.#place.name} was changed by another ${often} in the last ten minutes; the controller put it right`;
  }

  /**
   * Compares the object with what belongs there, and writes what differs. Never rejects: the owner calls it every
   * {@link publishEveryMs}.
   */
  async publish(): Promise<void> {
    const pem = this.#rootsPem();
    const { name, path, type, body } = this.#place;
    const wanted = body(pem);
    try {
      const found = await this.#found();
      const { pem: known, atMs } = this.#published ?? { pem: null, atMs: 0 };
      const isRight = found === null ? this.#elapsedMs() - atMs < againUnseenMs && known === pem : has(found, wanted);
      if (!isRight) {
        if (found !== null && known === pem) this.#noteOverwritten();
        await this.#api.send({ method: 'PATCH', path, body: wanted, type }, timeoutSignal(timeoutMs));
        this.#published = { pem, atMs: this.#elapsedMs() };
      } else if (found !== null) this.#published = { pem, atMs: this.#elapsedMs() };
      this.#problem = null;
    } catch (error) {
      const problem = `the roots of the mesh cannot be written into ${name}: ${describeError(error)}`;
      if (problem !== this.#problem)
        this.#log.error({ err: error, into: name }, 'the roots of the mesh cannot be published');
      this.#problem = problem;
    }
  }

  /** Null: it may not be read, or is not there, and what is written says more. */
  async #found(): Promise<unknown> {
    try {
      return await this.#api.get(this.#place.path, timeoutSignal(timeoutMs));
    } catch (error) {
      if (error instanceof KubernetesError && (error.status === 403 || error.status === 404)) return null;
      throw error;
    }
  }

  #lately(): readonly number[] {
    return this.#overwrittenMs.filter((atMs) => this.#elapsedMs() - atMs < tellMs);
  }

  #noteOverwritten(): void {
    const lately = this.#lately();
    this.#overwrittenMs = [...lately, this.#elapsedMs()];
    // One who does it again and again is in the status, with how often.
    if (lately.length > 0) return;
    this.#log.warn(
      { object: this.#place.name },
      'another has changed what belongs to the controller; it is written again',
    );
  }
}

/** Whether an object has all of another one. Items of a list that have a name are found by it, as the API server merges them. */
function has(found: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found)) return false;
    if (wanted.every(isNamed)) return wanted.every((item) => found.some((each) => has(each, item)));
    return found.length === wanted.length && wanted.every((item, at) => has(found[at], item));
  }
  if (typeof wanted !== 'object' || wanted === null) return found === wanted;
  if (typeof found !== 'object' || found === null) return false;
  const fields = found as Readonly<Record<string, unknown>>;
  return Object.entries(wanted).every(([field, value]) => has(fields[field], value));
}

function isNamed(item: unknown): boolean {
  return typeof item === 'object' && item !== null && 'name' in item;
}
