import { EventEmitter } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { assertNever } from '../../../shared/assert-never.js';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { patchBetween } from '../../../shared/wire/snapshot-patch.js';
import type {
  DrainedConnections,
  FromWorker,
  LateAcceptState,
  PoolWorkerInit,
  StateCommand,
  StateMessage,
  WorkerCommand,
  WorkerDump,
  WorkerReport,
  WorkloadSockets,
} from '../messages.js';
import type { DataplaneSettings } from '../settings.js';
import { WorkloadUsage } from '../workload-usage.js';
import { endThread, tell, whenPresentOnesEnded } from './drain-threads.js';
import { linkWorkers } from './link-workers.js';
import { ListeningSockets } from './listening-sockets.js';
import { SlotTable } from './slot-table.js';
import { LatestState } from './latest-state.js';
import { spawnWorker } from './warm-workers.js';
import type { WorkloadName, NodeName } from '../../../shared/routing/names.js';

export type PoolLog = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

export type WorkloadListening = {
  readonly workload: WorkloadName;
  readonly netnsInode: number;
  /** null: every worker listens. Otherwise why one of them does not. */
  readonly error: string | null;
  readonly late: LateAcceptState;
};

type PoolEvents = {
  /** What one worker counted since its last report. */
  report: [report: WorkerReport, workerIndex: number];
  /** Every worker has now answered for this workload's namespace. Emitted again after a worker was replaced. */
  listening: [listening: WorkloadListening];
  /** Every worker now enforces at least this revision. Only increases, unless a mesh was wiped and starts again. */
  applied: [revision: number];
  /** Every worker now enforces at least this sequence of the registry. */
  registered: [sequence: number];
  /** A worker died, and its connections with it. A replacement is being started. */
  workerLost: [workerIndex: number, error: Error];
  /** A worker (or a replacement) is running and has received the whole state. */
  workerOnline: [workerIndex: number];
};

type Member = {
  readonly worker: Worker;
  readonly startedAtMs: number;
  isOnline: boolean;
  appliedRevision: number | null;
  registeredSequence: number | null;
  /** By workload name: what this worker reported about its listeners. */
  readonly listening: Map<WorkloadName, Omit<WorkloadListening, 'workload'>>;
  /** Number of the last list of workloads that it was sent. */
  list: number;
  error: Error | null;
};

/**
 * A replacement starts at once, and after repeated crashes within this time, so that a node does not stop listening for
 * long.
 */
const maxRestartDelayMs = 1000;
const firstRestartDelayMs = 20;
/** A worker that ran this long counts as healthy: its next crash counts as the first. */
const settledAfterMs = 10_000;
const dumpTimeoutMs = 2000;
/** Of a drain that serves on: how long the last connections that it accepted have. */
const lastServedMs = 1000;

/**
 * The control thread's interface to the data plane: starts the worker threads, keeps them on the same state, replaces
 * one that dies, and sums up their reports. Owns the threads: `drain` or `Symbol.asyncDispose` ends them all.
 */
export class WorkerPool extends EventEmitter<PoolEvents> {
  readonly #init: { readonly node: NodeName; readonly trustDomain: string; readonly settings: DataplaneSettings };
  readonly #log: PoolLog;
  readonly #spawn: (init: PoolWorkerInit) => Worker;
  readonly #members: (Member | null)[];
  readonly #crashes: number[];
  readonly #state = new LatestState();
  readonly #slots = new SlotTable();
  /** For the next process. Closed by {@link drain}. */
  readonly sockets: ListeningSockets;
  readonly #usage: WorkloadUsage;
  readonly #usageBuffer: SharedArrayBuffer;
  readonly #restartTimers = new Set<NodeJS.Timeout>();
  #isStopping = false;
  #enforcedRevision: number | null = null;
  #registeredSequence: number | null = null;
  #nextDumpId = 1;
  /** How many lists of workloads were made. */
  #lists = 0;

  constructor(init: {
    readonly workers: number;
    readonly node: NodeName;
    readonly trustDomain: string;
    readonly settings: DataplaneSettings;
    readonly log: PoolLog;
    /** Listening sockets of the process before; they become the pool's. */
    readonly kept?: readonly number[];
    /** The set of listening sockets changed. */
    readonly onSockets?: () => void;
    /** Whether another agent has the same sockets in use; default: never. */
    readonly sharesSockets?: () => boolean;
    /** Starts a thread; default: {@link spawnWorker}. */
    readonly spawn?: (init: PoolWorkerInit) => Worker;
  }) {
    super();
    this.#spawn = init.spawn ?? spawnWorker;
    this.#init = { node: init.node, trustDomain: init.trustDomain, settings: init.settings };
    this.#log = init.log;
    this.#members = Array.from({ length: init.workers }, () => null);
    this.#crashes = Array.from({ length: init.workers }, () => 0);
    this.sockets = new ListeningSockets({
      workers: init.workers,
      backlog: init.settings.listenBacklog,
      kept: init.kept ?? [],
      ...(init.onSockets === undefined ? {} : { onChange: init.onSockets }),
      ...(init.sharesSockets === undefined ? {} : { isShared: init.sharesSockets }),
    });
    this.#usageBuffer = WorkloadUsage.allocate(init.workers);
    this.#usage = new WorkloadUsage({ buffer: this.#usageBuffer, workers: init.workers });
  }

  /** Starts every worker; resolves when all of them run. State may be sent before or after. */
  async start(): Promise<void> {
    await Promise.all(this.#members.map((_, index) => this.#startMember(index)));
  }

  /**
   * Sends the message to every worker, and to later replacements. Throws `SNAPSHOT_INVALID` for rules that cannot be
   * evaluated; the workers then keep their current rules.
   */
  send(message: StateMessage): void {
    if (message.type === 'rules') prepareSnapshot(message.snapshot, this.#state.snapshot);
    const known = this.#state.snapshot;
    const command = this.#commandFor(this.#state.absorb(message), known);
    for (const member of this.#members) if (member !== null) tellMember(member, command);
    if (message.type === 'workloads') this.#forgetGoneWorkloads();
  }

  /** The revision that every worker enforces; null until each of them has rules. */
  get enforcedRevision(): number | null {
    return this.#enforcedRevision;
  }

  /** The sequence of the registry that every worker enforces; null until each of them has a complete one. */
  get registeredSequence(): number | null {
    return this.#registeredSequence;
  }

  /** How many workers are running now, and how many should be. */
  get workersOnline(): { readonly online: number; readonly wanted: number } {
    const online = this.#members.filter((member) => member?.isOnline === true).length;
    return { online, wanted: this.#members.length };
  }

  /** The combined answer of all workers for a workload's current namespace; null while one has not answered. */
  listeningOf(workload: WorkloadName): WorkloadListening | null {
    const wanted = this.#state.workloads.find((candidate) => candidate.name === workload);
    if (wanted === undefined) return null;
    let error: string | null = null;
    let isOpen = false;
    let problem: string | null = null;
    for (const member of this.#members) {
      const answer = member?.listening.get(workload);
      if (answer === undefined || answer.netnsInode !== wanted.netnsInode) return null;
      error ??= answer.error;
      isOpen ||= answer.late.isOpen;
      problem ??= answer.late.problem;
    }
    return { workload, netnsInode: wanted.netnsInode, error, late: { isOpen, problem } };
  }

  /** Whether the worker that accepts for a workload listens in its current namespace, also while others are replaced. */
  isListening(workload: WorkloadName): boolean {
    const wanted = this.#state.workloads.find((candidate) => candidate.name === workload);
    const acceptor = this.sockets.acceptorOf(workload);
    const answer = acceptor === null ? undefined : this.#members[acceptor]?.listening.get(workload);
    return answer !== undefined && answer.netnsInode === wanted?.netnsInode && answer.error === null;
  }

  /** The state of each worker that answers within two seconds. Without secrets. */
  async dump(): Promise<WorkerDump[]> {
    const members = this.#members.filter((member) => member !== null);
    const dumps = await Promise.all(members.map((member) => this.#dumpOf(member)));
    return dumps.filter((dump) => dump !== null);
  }

  /**
   * Stops listening, lets open connections finish for `graceMs`, cuts the rest with the reason `DRAIN`, logs what was cut,
   * and ends the threads. The last reports are emitted before it resolves. Safe to call twice. Resolves in any case:
   * `stuckThreads` cannot be ended, and `process.exit()` would wait for them for ever. With `isServing`, for sockets that
   * another process keeps: listens on while the connections of this moment go on, within the same time.
   */
  async drain(
    graceMs: number,
    o: { readonly isServing: boolean } = { isServing: false },
  ): Promise<{ readonly stuckThreads: number }> {
    const startedAtMs = performance.now();
    if (o.isServing) {
      const workers = this.#members.flatMap((member) => (member === null ? [] : [member.worker]));
      await whenPresentOnesEnded(workers, Math.max(0, graceMs - lastServedMs));
    }
    const leftMs = Math.max(0, Math.round(graceMs - (performance.now() - startedAtMs)));
    this.#isStopping = true;
    // The workers accept on duplicates.
    this.sockets.closeAll();
    for (const timer of this.#restartTimers) clearTimeout(timer);
    this.#restartTimers.clear();
    let stuckThreads = 0;
    await Promise.all(
      this.#members.map(async (member, workerIndex) => {
        if (member === null) return;
        if (!(await endThread({ worker: member.worker, workerIndex, graceMs: leftMs, log: this.#log })))
          stuckThreads += 1;
      }),
    );
    return { stuckThreads };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(0);
  }

  async #startMember(index: number): Promise<void> {
    const worker = this.#spawn({
      ...this.#init,
      workerIndex: index,
      workers: this.#members.length,
      workloadUsage: this.#usageBuffer,
    });
    const member: Member = {
      worker,
      startedAtMs: Date.now(),
      isOnline: false,
      appliedRevision: null,
      registeredSequence: null,
      listening: new Map(),
      list: 0,
      error: null,
    };
    for (const [other, its] of this.#members.entries()) {
      if (other !== index && its !== null) linkWorkers({ index, worker }, { index: other, worker: its.worker });
    }
    this.#members[index] = member;
    this.sockets.workerBack(index);
    worker.on('message', (message: FromWorker) => this.#onMessage(index, member, message));
    worker.on('error', (error) => (member.error = error instanceof Error ? error : new Error(String(error))));
    worker.on('exit', () => this.#onExit(index, member));
    for (const message of this.#state.replay()) tellMember(member, this.#commandFor(message, null));
    await new Promise<void>((resolve, reject) => {
      const onMessage = (message: FromWorker): void => {
        if (message.type !== 'online') return;
        worker.off('message', onMessage);
        worker.off('exit', onExit);
        resolve();
      };
      const onExit = (): void => {
        reject(
          new CulvertError({
            code: 'WORKER_START',
            message: `data-plane worker ${index} ended before it was ready`,
            hint: 'see the error logged before this one',
            cause: member.error,
          }),
        );
      };
      worker.on('message', onMessage);
      worker.once('exit', onExit);
    });
  }

  #onMessage(index: number, member: Member, message: FromWorker): void {
    switch (message.type) {
      case 'online':
        member.isOnline = true;
        this.emit('workerOnline', index);
        return;
      case 'report':
        this.emit('report', message, index);
        return;
      case 'applied':
        member.appliedRevision = message.revision;
        this.#settleRevision();
        return;
      case 'registered':
        member.registeredSequence = message.sequence;
        this.#settleSequence();
        return;
      case 'listening': {
        const { netnsInode, error, late } = message;
        member.listening.set(message.workload, { netnsInode, error, late });
        // A socket on which no worker accepts would let its connections wait in vain. With a later list it may listen.
        if (error !== null && message.list === member.list) this.sockets.closeFor(index, message.workload);
        const listening = this.listeningOf(message.workload);
        if (listening !== null) this.emit('listening', listening);
        return;
      }
      case 'drained':
        this.#logDrained(index, message);
        // The worker's last message. Its listeners and timers are gone, and the rest of the thread holds nothing.
        void member.worker.terminate();
        return;
      case 'dump':
      case 'settled':
        return;
      default:
        assertNever(message);
    }
  }

  #logDrained(workerIndex: number, { cut, givenUp, named }: DrainedConnections): void {
    if (cut === 0) return;
    const fields = { workerIndex, cut, connections: named };
    if (givenUp === 0) this.#log.warn(fields, 'the drain is over: open connections were cut');
    else this.#log.error({ ...fields, givenUp }, 'the drain is over: some connections did not end when they were cut');
  }

  #settleRevision(): void {
    const lowest = this.#lowest((member) => member.appliedRevision);
    if (lowest === null || lowest === this.#enforcedRevision) return;
    this.#enforcedRevision = lowest;
    this.emit('applied', lowest);
  }

  #settleSequence(): void {
    const lowest = this.#lowest((member) => member.registeredSequence);
    if (lowest === null || lowest === this.#registeredSequence) return;
    this.#registeredSequence = lowest;
    this.emit('registered', lowest);
  }

  /** Null until every worker has one. */
  #lowest(of: (member: Member) => number | null): number | null {
    let lowest = Number.POSITIVE_INFINITY;
    for (const member of this.#members) {
      const one = member === null ? null : of(member);
      if (one === null) return null;
      lowest = Math.min(lowest, one);
    }
    return Number.isFinite(lowest) ? lowest : null;
  }

  #onExit(index: number, member: Member): void {
    if (this.#members[index] === member) this.#members[index] = null;
    this.#usage.clearWorker(index);
    if (this.#isStopping) return;
    const crashes = Date.now() - member.startedAtMs > settledAfterMs ? 0 : (this.#crashes[index] ?? 0);
    this.#acceptElsewhere(index, crashes);
    const error = member.error ?? new Error('the thread ended without an error');
    this.#log.error(
      { workerIndex: index, error: describeError(error), stack: error.stack },
      'data-plane worker died: its connections are lost; starting a replacement',
    );
    this.emit('workerLost', index, error);
    this.#crashes[index] = crashes + 1;
    const delayMs = Math.min(maxRestartDelayMs, firstRestartDelayMs * 2 ** crashes);
    const timer = setTimeout(() => {
      this.#restartTimers.delete(timer);
      // A failed start ends in 'exit', which schedules the next attempt.
      this.#startMember(index).then(
        () => this.#log.info({ workerIndex: index }, 'data-plane worker replaced'),
        () => undefined,
      );
    }, delayMs);
    this.#restartTimers.add(timer);
  }

  /** Connections to a worker's listeners wait for it, or for the one that takes its place. */
  #acceptElsewhere(lost: number, crashes: number): void {
    this.sockets.workerLost(lost);
    const others = this.#members.filter((member) => member !== null);
    // It may not come back soon.
    if (others.length === 0 && crashes > 0) this.sockets.endListening();
    if (others.length === 0) return;
    const command = this.#commandFor({ type: 'workloads', workloads: this.#state.workloads }, null);
    for (const member of others) tellMember(member, command);
  }

  /** `known`: the rules that the recipients already have; null: none. */
  #commandFor(message: StateCommand, known: Snapshot | null): WorkerCommand {
    if (message.type === 'rules') {
      return { type: 'rules', patch: toSharedText(JSON.stringify(patchBetween(known, message.snapshot))) };
    }
    if (message.type !== 'workloads') return message;
    const sockets = this.sockets.openFor(message.workloads);
    const none: WorkloadSockets = { kind: 'failed', problem: 'its sockets were not opened' };
    const workloads = this.#slots.assign(message.workloads).map((workload) => ({
      ...workload,
      sockets: sockets.get(workload.name) ?? none,
    }));
    return { type: 'workloads', list: ++this.#lists, workloads };
  }

  #forgetGoneWorkloads(): void {
    const names = new Set(this.#state.workloads.map((workload) => workload.name));
    for (const member of this.#members) {
      for (const name of member?.listening.keys() ?? []) if (!names.has(name)) member?.listening.delete(name);
    }
  }

  async #dumpOf(member: Member): Promise<WorkerDump | null> {
    const id = this.#nextDumpId++;
    return await new Promise((resolve) => {
      const finish = (dump: WorkerDump | null): void => {
        clearTimeout(timer);
        member.worker.off('message', onMessage);
        member.worker.off('exit', onExit);
        resolve(dump);
      };
      const onMessage = (message: FromWorker): void => {
        if (message.type === 'dump' && message.id === id) finish(message.state);
      };
      const onExit = (): void => finish(null);
      const timer = setTimeout(finish, dumpTimeoutMs, null);
      member.worker.on('message', onMessage);
      member.worker.once('exit', onExit);
      tell(member.worker, { type: 'dump', id });
    });
  }
}

function tellMember(member: Member, command: WorkerCommand): void {
  if (command.type === 'workloads') member.list = command.list;
  tell(member.worker, command);
}

function toSharedText(text: string): SharedArrayBuffer {
  const bytes = Buffer.from(text);
  const shared = new SharedArrayBuffer(bytes.length);
  new Uint8Array(shared).set(bytes);
  return shared;
}
