import { CulvertError, describeError } from '../../../shared/errors.js';
import type {
  FromWorker,
  LocalWorkload,
  ServedWorkload,
  SlottedWorkload,
  WorkerDump,
  WorkloadSockets,
} from '../messages.js';
import { capturePorts } from '../../ports.js';
import { HostedWorkload } from './hosted-workload.js';
import type { LateAcceptHandlers } from './late/late-accept.js';
import { LateHosting } from './late/late-hosting.js';
import { WorkloadListeners, type ListenerHandlers } from './workload-listeners.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

export type ListeningMessage = Extract<FromWorker, { type: 'listening' }>;

type OpenSockets = Extract<WorkloadSockets, { kind: 'open' }>;

type Hosted = {
  readonly workload: HostedWorkload;
  readonly slotted: SlottedWorkload;
  /** Null: another worker accepts for this workload, or they are not open yet. */
  listeners: WorkloadListeners | null;
  /** It could be served once, so it may have connections. */
  isServed: boolean;
};

/**
 * Makes this worker serve the workloads of the node, and listen for those that it is to accept for: opens what is new and
 * closes what left. A workload whose namespace was replaced leaves and returns. Calls run one after another.
 */
export class Hosting {
  readonly #hosted: Map<WorkloadName, HostedWorkload>;
  readonly #open = new Map<WorkloadName, Hosted>();
  readonly #backlog: number;
  readonly #workerIndex: number;
  readonly #handlers: ListenerHandlers;
  readonly #late: LateHosting;
  readonly #onListening: (message: ListeningMessage) => void;
  readonly #onGone: (workload: HostedWorkload) => void;
  #last: Promise<void> = Promise.resolve();
  /** Number of the list that {@link apply} works on, or worked on last. */
  #list = 0;

  /** Owns the contents of `hosted`. `onGone` ends everything in the namespace before its fd is closed. */
  constructor(init: {
    readonly hosted: Map<WorkloadName, HostedWorkload>;
    readonly backlog: number;
    readonly workerIndex: number;
    readonly handlers: ListenerHandlers;
    readonly late: LateAcceptHandlers;
    /** Whether this worker, and no other, accepts late for the workload. */
    readonly acceptsLateFor: (workload: HostedWorkload) => boolean;
    readonly onListening: (message: ListeningMessage) => void;
    readonly onGone: (workload: HostedWorkload) => void;
  }) {
    this.#hosted = init.hosted;
    this.#backlog = init.backlog;
    this.#workerIndex = init.workerIndex;
    this.#handlers = init.handlers;
    this.#onListening = init.onListening;
    this.#onGone = init.onGone;
    this.#late = new LateHosting({
      isMine: init.acceptsLateFor,
      backlog: init.backlog,
      handlers: init.late,
      onState: (workload) => this.#tellListening(workload, null),
    });
  }

  /** `workloads` is the complete list. Each one is answered by one `listening`, unchanged ones too. */
  async apply(list: number, workloads: readonly ServedWorkload[]): Promise<void> {
    this.#last = this.#last.then(() => {
      this.#list = list;
      return this.#reconcile(workloads);
    });
    await this.#last;
  }

  async releaseAll(): Promise<void> {
    await this.apply(this.#list, []);
  }

  /** Closes the listeners and keeps the namespaces, so that open connections can continue. */
  async stopListening(): Promise<void> {
    await this.#last;
    this.#late.releaseAll();
    for (const hosted of this.#open.values()) this.#stopAccepting(hosted);
  }

  /**
   * Follows the timeouts of connection tracking, one workload after the other, and says for each whether its connections
   * must be probed in another way from now on. The caller may pause between two of them.
   */
  *refreshProbing(): Generator<boolean> {
    for (const { workload, listeners } of this.#open.values()) {
      const isChanged = workload.isOpen && workload.refreshProbing();
      if (isChanged) {
        listeners?.probe(workload.probing.open);
        this.#late.probe(workload);
      }
      yield isChanged;
    }
  }

  /** Connects that wait until their far side is connected. */
  get heldConnects(): number {
    return this.#late.held;
  }

  listeners(): WorkerDump['listeners'] {
    return [...this.#open.values()].flatMap(({ workload, listeners }) =>
      listeners === null ? [] : Object.values(capturePorts).map((port) => ({ workload: workload.name, port })),
    );
  }

  async #reconcile(workloads: readonly ServedWorkload[]): Promise<void> {
    const wanted = new Map(workloads.map((workload) => [workload.name, workload]));
    for (const [name, hosted] of this.#open) {
      if (!isSame(wanted.get(name), hosted.slotted)) this.#release(name, hosted);
    }
    // All of them first: from the first listener on, connections to the others of this node find them here.
    const failed = new Map(workloads.flatMap((workload) => this.#tryToEnter(workload)));
    for (const workload of workloads) {
      const error = failed.get(workload.name) ?? (await this.#tryToListen(workload));
      const hosted = this.#open.get(workload.name);
      if (hosted !== undefined && error === null) this.#late.apply(hosted.workload, workload.acceptsLate === true);
      this.#tellListening(hosted?.workload ?? workload, error);
    }
  }

  #tellListening(workload: HostedWorkload | SlottedWorkload, error: string | null): void {
    const { name, netnsInode } = workload;
    const late = this.#late.stateOf(workload instanceof HostedWorkload ? workload : null);
    this.#onListening({ type: 'listening', list: this.#list, workload: name, netnsInode, error, late });
  }

  /** Opens the namespace; returns the problem if it cannot be opened. */
  #tryToEnter(slotted: ServedWorkload): [WorkloadName, string][] {
    const known = this.#open.get(slotted.name);
    if (known !== undefined) {
      known.workload.hasRules = slotted.hasRules === true;
      return [];
    }
    try {
      const hosted = { workload: HostedWorkload.open(slotted), slotted, listeners: null, isServed: false };
      this.#open.set(slotted.name, hosted);
      this.#hosted.set(slotted.name, hosted.workload);
      return [];
    } catch (error) {
      return [[slotted.name, describeError(error)]];
    }
  }

  /** Null: the workload is served, and listened for if this worker is to accept. */
  async #tryToListen({ name, sockets }: ServedWorkload): Promise<string | null> {
    const hosted = this.#open.get(name);
    if (hosted === undefined) return null;
    try {
      if (sockets.kind === 'failed') throw new CulvertError({ code: 'LISTEN_FAILED', message: sockets.problem });
      if (sockets.acceptor === this.#workerIndex) await this.#listen(hosted, sockets.fds);
      else this.#stopAccepting(hosted);
      hosted.isServed = true;
      return null;
    } catch (error) {
      // A workload that was never served holds nothing open. The next list tries again.
      if (!hosted.isServed) this.#release(name, hosted);
      return describeError(error);
    }
  }

  async #listen(hosted: Hosted, sockets: OpenSockets['fds']): Promise<void> {
    hosted.listeners ??= await WorkloadListeners.open({
      workload: hosted.workload,
      sockets,
      backlog: this.#backlog,
      handlers: this.#handlers,
    });
  }

  #stopAccepting(hosted: Hosted): void {
    hosted.listeners?.close();
    hosted.listeners = null;
  }

  #release(name: WorkloadName, hosted: Hosted): void {
    this.#open.delete(name);
    this.#hosted.delete(name);
    hosted.listeners?.close();
    this.#late.release(hosted.workload);
    this.#onGone(hosted.workload);
    hosted.workload.close();
  }
}

function isSame(wanted: LocalWorkload | undefined, has: LocalWorkload): boolean {
  return wanted !== undefined && wanted.netnsInode === has.netnsInode && wanted.netnsPath === has.netnsPath;
}
