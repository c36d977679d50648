import { CulvertError } from '../../shared/errors.js';

/** What a request to the Kubernetes API came to, where it is not an answer. Its code is `KUBERNETES_API`. */
export class KubernetesError extends CulvertError {
  /** The HTTP status, or that of a Status object in a watch; null: there was no answer. */
  readonly status: number | null;
  /** Milliseconds after which the server wants to be asked again; null: it does not say. */
  readonly retryAfterMs: number | null;

  constructor(init: {
    readonly message: string;
    readonly hint: string;
    readonly status?: number | null;
    readonly retryAfterMs?: number | null;
    readonly cause?: unknown;
  }) {
    super({ code: 'KUBERNETES_API', message: init.message, hint: init.hint, cause: init.cause });
    this.status = init.status ?? null;
    this.retryAfterMs = init.retryAfterMs ?? null;
  }

  /** The version that a watch or a page continues from is no longer kept: everything has to be listed again. */
  get isExpired(): boolean {
    return this.status === 410;
  }
}
