import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';
import type { NodeProblem, NodeProblems } from './cluster-events.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import type { ClusterNode } from './node.js';
import { WritePauses } from './write-pauses.js';

const turnMs = 1000;
const maxWritesPerTurn = 20;
const timeoutMs = 5000;
const pauses = { firstMs: 1000, longestMs: 30_000 };
/** The image of an agent is pulled in less. */
const usualMs = 120_000;
const maxNamed = 3;

/** What decides whether a node may take pods. */
export interface NodeFacts {
  /**
   * Why the agent of a node would not capture each new pod there: before its first process runs, where the installation has the
   * CNI plugin. Null: it would. `sinceMs`: when the node was made, so that an earlier node of this name does not count.
   */
  readonly capturesNothingYet: (node: string, sinceMs: number) => string | null;
}

type Refusal = { readonly failures: number; readonly notBeforeMs: number; readonly problem: string | null };

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
  readonly #elapsedMs: () => number;
  readonly #pauses: WritePauses;
  /** Since when a node is known to have the taint. */
  readonly #since = new Map<string, number>();
  /** Nodes whose change is refused; others go on. */
  readonly #refused = new Map<string, Refusal>();
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
    /** For tests: of a clock that never goes back. */
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#nodes = init.nodes;
    this.#facts = init.facts;
    this.#log = init.log;
    this.#turnMs = init.turnMs ?? turnMs;
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
    this.#pauses = new WritePauses({ what: 'taints of nodes', log: init.log, ...pauses, elapsedMs: this.#elapsedMs });
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Why nodes keep the taint, and take no pods; null: none does for longer than an agent takes to start. */
  get problem(): string | null {
    const [refused] = [...this.#refused.values()].flatMap(({ problem }) => problem ?? []);
    return this.#pauses.problem ?? refused ?? this.#tooLong();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(this.#turnMs, undefined, { signal }).catch(() => undefined);
      const due = this.#due();
      if (signal.aborted || this.#pauses.isPausing) continue;
      for (const node of due.slice(0, maxWritesPerTurn)) if (!(await this.#remove(node, signal))) break;
    }
  }

  #tainted(): readonly ClusterNode[] {
    return [...this.#nodes()].filter(({ startupTaint }) => startupTaint !== null);
  }

  /** Nodes whose agents capture, those first that were refused least often. */
  #due(): readonly ClusterNode[] {
    const nowMs = this.#elapsedMs();
    const tainted = this.#tainted();
    const names = new Set(tainted.map(({ name }) => name));
    for (const known of [this.#since, this.#refused]) {
      for (const name of known.keys()) if (!names.has(name)) known.delete(name);
    }
    for (const name of names) if (!this.#since.has(name)) this.#since.set(name, nowMs);
    if (names.size === 0) this.#pauses.succeeded();
    const failuresOf = ({ name }: ClusterNode): number => this.#refused.get(name)?.failures ?? 0;
    return tainted
      .filter(({ name }) => nowMs >= (this.#refused.get(name)?.notBeforeMs ?? 0))
      .filter(({ name, createdAtMs }) => this.#facts.capturesNothingYet(name, createdAtMs) === null)
      .sort((a, b) => failuresOf(a) - failuresOf(b));
  }

  /** By name of the node, why it keeps the taint for longer than an agent takes to start, for the node's events. */
  get nodeProblems(): NodeProblems {
    const problemOf = ({ name, createdAtMs }: ClusterNode): NodeProblem => {
      const why =
        this.#facts.capturesNothingYet(name, createdAtMs) ??
        this.#refused.get(name)?.problem ??
        this.#pauses.problem ??
        'it will lose it now';
      return { reason: 'StartupTaintStays', note: `the startup taint keeps pods off this node: ${why}`, afterMs: 0 };
    };
    return new Map(this.#late().map((node) => [node.name, [problemOf(node)]]));
  }

  #late(): readonly ClusterNode[] {
    const nowMs = this.#elapsedMs();
    return this.#tainted().filter(({ name }) => nowMs - (this.#since.get(name) ?? nowMs) >= usualMs);
  }

  #tooLong(): string | null {
    const late = this.#late();
    if (late.length === 0) return null;
    const named = late.slice(0, maxNamed).map(({ name, createdAtMs }) => {
      return `${name} (${this.#facts.capturesNothingYet(name, createdAtMs) ?? 'it will lose it now'})`;
    });
    const more = late.length > maxNamed ? `, and ${late.length - maxNamed} more` : '';
    return `nodes have had the startup taint for over two minutes, and take no pods: ${named.join(', ')}${more}`;
  }

  /** Whether other nodes can be written. */
  async #remove({ name, startupTaint }: ClusterNode, signal: AbortSignal): Promise<boolean> {
    if (startupTaint === null) return true;
    const path = `/spec/taints/${startupTaint.index}`;
    // Where the list of taints has changed meanwhile, the server refuses it, and a later turn sees the new list.
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
      return this.#onFailure(name, error);
    }
    this.#refused.delete(name);
    this.#pauses.succeeded();
    return true;
  }

  #onFailure(name: string, error: unknown): boolean {
    const status = error instanceof KubernetesError ? error.status : null;
    if (status === null || [401, 429, 503].includes(status)) {
      this.#pauses.failed(error);
      return false;
    }
    const { failures = 0 } = this.#refused.get(name) ?? {};
    // The first time, the list of taints may be another one, or the node may be gone.
    const isUsual = failures === 0 && [404, 409, 422].includes(status);
    const problem = isUsual ? null : `the startup taint of ${name} cannot be taken off: ${describeError(error)}`;
    if (problem !== null && failures <= 1) this.#log.warn({ err: error, node: name }, 'a startup taint stays');
    const notBeforeMs = this.#elapsedMs() + this.#pauses.pauseMs(failures);
    this.#refused.set(name, { failures: failures + 1, notBeforeMs, problem });
    return true;
  }
}
