import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { Reflector } from './reflector.js';

const metadataSchema = z.object({
  metadata: z.object({ name: z.string(), deletionTimestamp: z.string().nullish() }),
});

/**
 * Whether the installation that this controller belongs to is being taken away: its agents' DaemonSet was there and was deleted.
 * An installation whose DaemonSet was never seen, or cannot be asked about, stays.
 */
export class Installation implements AsyncDisposable {
  readonly #daemonSet: string;
  readonly #onChange: () => void;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #wasSeen = false;
  #isThere = false;

  constructor(init: {
    readonly api: KubernetesApi;
    /** Of controller and agents. */
    readonly namespace: string;
    /** Name of the DaemonSet. */
    readonly daemonSet: string;
    readonly log: Log;
    readonly onChange: () => void;
    /** For tests. */
    readonly backoff?: { readonly firstMs: number; readonly longestMs: number };
  }) {
    const { api, namespace, daemonSet, log, backoff } = init;
    this.#daemonSet = daemonSet;
    this.#onChange = init.onChange;
    const key = `${namespace}/${daemonSet}`;
    const reflector = new Reflector<true>({
      api,
      log,
      kind: {
        name: 'daemonsets',
        path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
        read: (object) => this.#read(object),
        onReplaced: (objects, unreadable) => this.#set(objects.has(key) || unreadable.has(key)),
        onChanged: (changed, object) => {
          if (changed === key) this.#set(object !== null);
        },
        // It is there, whatever it says.
        onUnreadable: (changed) => {
          if (changed === key) this.#set(true);
        },
      },
      ...(backoff === undefined ? {} : { backoff }),
    });
    this.#running = reflector.run(this.#stop.signal);
  }

  get isUninstalled(): boolean {
    return this.#wasSeen && !this.#isThere;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Null: it is another one, or is being deleted. */
  #read(object: unknown): true | null {
    const { name, deletionTimestamp } = metadataSchema.parse(object).metadata;
    return name === this.#daemonSet && (deletionTimestamp ?? null) === null ? true : null;
  }

  #set(isThere: boolean): void {
    const was = this.isUninstalled;
    this.#isThere = isThere;
    this.#wasSeen ||= isThere;
    if (this.isUninstalled !== was) this.#onChange();
  }
}
