import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../shared/log.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import type { ClusterNode } from './node.js';
import { WritePauses } from './write-pauses.js';

const turnMs = 1000;
const maxWritesPerTurn = 20;
const timeoutMs = 5000;
const pauses = { firstMs: 1000, longestMs: 30_000 };

/** What decides whether a node may take pods. */
export interface NodeFacts {
  /**
   * Whether the agent of a node, heard of since then, captures each new pod there: before its first process runs, where the
   * installation has the CNI plugin. `sinceMs`: when the node was made, so that an earlier node of this name does not count.
   */
  readonly capturesNewPods: (node: string, sinceMs: number) => boolean;
}

/**
 * Takes the startup taint off a node as soon as its agent captures new pods. A cluster whose nodes register with that taint
 * schedules no pod on a new node before: the agent tolerates it. It is never put on a node, so nothing that the mesh sees
 * wrongly can take nodes from a cluster. Source: "Taints and Tolerations" in the documentation of Kubernetes.
 */
export class StartupTaint implements AsyncDisposable {
  readonly #api: Pick<KubernetesApi, 'send'>;
  readonly #nodes: () => Iterable<ClusterNode>;
  readonly #facts: NodeFacts;
  readonly #log: Log;
  readonly #turnMs: number;
  readonly #pauses: WritePauses;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(init: {
    readonly api: Pick<KubernetesApi, 'send'>;
    /** As the cluster has them now. */
    readonly nodes: () => Iterable<ClusterNode>;
    readonly facts: NodeFacts;
    readonly log: Log;
    /** For tests. */
    readonly turnMs?: number;
  }) {
    this.#api = init.api;
    this.#nodes = init.nodes;
    this.#facts = init.facts;
    this.#log = init.log;
    this.#turnMs = init.turnMs ?? turnMs;
    const elapsedMs = (): number => performance.now();
    this.#pauses = new WritePauses({ what: 'taints of nodes', log: init.log, ...pauses, elapsedMs });
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Why nodes may keep the taint; null: they do not. */
  get problem(): string | null {
    return this.#pauses.problem;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(this.#turnMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted || this.#pauses.isPausing) continue;
      const due = [...this.#nodes()].filter(
        ({ name, createdAtMs, startupTaint }) =>
          startupTaint !== null && this.#facts.capturesNewPods(name, createdAtMs),
      );
      if (due.length === 0) this.#pauses.succeeded();
      for (const node of due.slice(0, maxWritesPerTurn)) if (!(await this.#remove(node, signal))) break;
    }
  }

  /** Whether other nodes can be written. */
  async #remove({ name, startupTaint }: ClusterNode, signal: AbortSignal): Promise<boolean> {
    if (startupTaint === null) return true;
    const path = `/spec/taints/${startupTaint.index}`;
    // Where the list of taints has changed meanwhile, the server refuses it, and the next turn sees the new list.
    const body = [
      { op: 'test', path, value: startupTaint.taint },
      { op: 'remove', path },
    ];
    const what = { method: 'PATCH', path: `/api/v1/nodes/${name}`, body, type: 'application/json-patch+json' } as const;
    try {
      await this.#api.send(what, AbortSignal.any([signal, timeoutSignal(timeoutMs)]));
      this.#log.info({ node: name }, 'the agent of a node captures its pods: the startup taint was taken off');
    } catch (error) {
      if (signal.aborted) return false;
      const isChanged = error instanceof KubernetesError && [404, 409, 422].includes(error.status ?? 0);
      if (isChanged) return true;
      this.#pauses.failed(error);
      return false;
    }
    this.#pauses.succeeded();
    return true;
  }
}
