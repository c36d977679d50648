import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../shared/log.js';
import type { InventoryConflict } from '../inventory/inventory-source.js';
import { EventWriter, type Condition, type Regarding } from './event-writer.js';
import type { KubernetesApi } from './kubernetes-api.js';

export type NodeProblem = { readonly reason: string; readonly note: string; readonly afterMs: number };

/** By name of the node. */
export type NodeProblems = ReadonlyMap<string, readonly NodeProblem[]>;

/** What the mesh knows of the objects of a cluster, as far as people of the cluster must know it. */
export interface EventFacts {
  /** Workloads, as `NAMESPACE/NAME`, that are not captured or whose connections are refused, and why. */
  readonly uncaptured: () => readonly { readonly workload: string; readonly problem: string }[];
  readonly isCaptured: (workload: string) => boolean;
  readonly nodes: () => NodeProblems;
  /** Entries that go without what another one has too. */
  readonly conflicts: () => readonly InventoryConflict[];
}

/** Objects of the cluster, as it has them now; null: it has none of this name, or nothing is to be told. */
export interface EventObjects {
  /** A pod of the mesh that has a sandbox, which is what its network needs. */
  readonly startedPod: (key: string) => Regarding | null;
  readonly node: (name: string) => Regarding | null;
  /** Of a registry key. */
  readonly entry: (key: string) => Regarding | null;
  /** What is not in force as it is written. */
  readonly warnings: () => readonly { readonly regarding: Regarding; readonly problems: readonly string[] }[];
}

const turnMs = 5000;
/** Capture takes less than a second; an agent that is replaced, some. */
const captureMs = 15_000;
const writtenMs = 5000;
const captured = { reason: 'Captured', note: 'in the mesh now: its connections are encrypted and ruled' };
const nothing = (): null => null;

/** Tells as events what people of a cluster must know of its objects. It waits for nothing, and nothing waits for it. */
export class ClusterEvents implements AsyncDisposable {
  readonly #facts: EventFacts;
  readonly #taintedNodes: () => NodeProblems;
  readonly #objects: EventObjects;
  readonly #writer: EventWriter;
  readonly #turnMs: number;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(init: {
    readonly api: Pick<KubernetesApi, 'send'>;
    readonly facts: EventFacts;
    /** Those whose startup taint stays; absent: none has one. */
    readonly taintedNodes?: () => NodeProblems;
    readonly objects: EventObjects;
    readonly instance: string;
    readonly nowMs: () => number;
    readonly log: Log;
    /** For tests. */
    readonly turnMs?: number;
    readonly elapsedMs?: () => number;
  }) {
    const { facts, objects, log } = init;
    this.#facts = facts;
    this.#taintedNodes = init.taintedNodes ?? (() => new Map());
    this.#objects = objects;
    this.#log = log;
    this.#turnMs = init.turnMs ?? turnMs;
    this.#writer = new EventWriter(init);
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Why events are not told; null: they are. */
  get problem(): string | null {
    return this.#writer.problem;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(this.#turnMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await this.#writer.tell(conditionsOf(this.#facts, this.#objects, this.#taintedNodes()), signal);
      } catch (error) {
        this.#log.error({ err: error }, 'events of the cluster cannot be made');
      }
    }
  }
}

/** What holds now. */
export function conditionsOf(
  facts: EventFacts,
  objects: EventObjects,
  taintedNodes: NodeProblems,
): readonly Condition[] {
  return [
    ...facts.uncaptured().flatMap(({ workload, problem }): Condition[] => {
      const regarding = objects.startedPod(workload);
      const note = `not in the mesh as it should be: ${problem}`;
      const over = (): typeof captured | null =>
        objects.startedPod(workload)?.uid === regarding?.uid && facts.isCaptured(workload) ? captured : null;
      return regarding === null ? [] : [{ regarding, reason: 'NotCaptured', note, afterMs: captureMs, over }];
    }),
    ...[...facts.nodes(), ...taintedNodes].flatMap(([name, problems]): Condition[] => {
      const regarding = objects.node(name);
      return regarding === null ? [] : problems.map((problem) => ({ ...problem, regarding, over: nothing }));
    }),
    ...byLoser(facts.conflicts()).flatMap(([key, conflicts]): Condition[] => {
      const regarding = objects.entry(key);
      const claims = conflicts.map(({ claim, winner }) => `${claim} is that of ${winner.key} (${winner.source}) too`);
      const note = `goes without what another one has: ${claims.join('; ')}`;
      return regarding === null ? [] : [{ regarding, reason: 'Clash', note, afterMs: writtenMs, over: nothing }];
    }),
    ...objects.warnings().map(({ regarding, problems }): Condition => {
      return { regarding, reason: 'NotAsWritten', note: problems.join('; '), afterMs: writtenMs, over: nothing };
    }),
  ];
}

function byLoser(conflicts: readonly InventoryConflict[]): readonly (readonly [string, InventoryConflict[]])[] {
  const found = new Map<string, InventoryConflict[]>();
  for (const conflict of conflicts) {
    const known = found.get(conflict.loser.key);
    if (known === undefined) found.set(conflict.loser.key, [conflict]);
    else known.push(conflict);
  }
  return [...found];
}
