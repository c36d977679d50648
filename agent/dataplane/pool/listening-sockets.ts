import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { listenTcp, stopListening } from '../../native/addon.js';
import { listenerOf } from '../../native/passed-sockets.js';
import { openNetns } from '../../native/netns.js';
import { type CapturePortName, capturePortNames, capturePorts } from '../../ports.js';
import type { LocalWorkload, WorkloadSockets } from '../messages.js';

type Opened = {
  readonly workload: WorkloadName;
  readonly netnsInode: number;
  /** By port, then by worker. A worker has more than one when they come from an agent with more workers. */
  readonly fds: Readonly<Record<CapturePortName, number[][]>>;
};

/**
 * The listening sockets of every workload, one for each port and worker. The control thread owns them, so that they can
 * be passed to the next process, and a socket's queue survives the only worker. Workers accept on duplicates.
 *
 * Every open socket keeps its namespace alive: sockets are closed when their workload leaves.
 */
export class ListeningSockets {
  readonly #workers: number;
  readonly #backlog: number;
  readonly #opened = new Map<number, Opened>();
  /** Taken from the process before, and not yet claimed by a workload. By namespace and port. */
  readonly #kept = new Map<string, number[]>();
  readonly #onChange: () => void;
  readonly #isShared: () => boolean;

  constructor(init: {
    readonly workers: number;
    readonly backlog: number;
    /** Sockets of the process before, which become this object's. */
    readonly kept?: readonly number[];
    /** The set of open sockets changed. */
    readonly onChange?: () => void;
    /** Whether another agent accepts on copies of these sockets, or is about to; default: never. */
    readonly isShared?: () => boolean;
  }) {
    this.#workers = init.workers;
    this.#backlog = init.backlog;
    this.#onChange = init.onChange ?? (() => undefined);
    this.#isShared = init.isShared ?? (() => false);
    for (const fd of init.kept ?? []) this.#keep(fd);
  }

  /**
   * The sockets of each of these workloads, opened if they are not open yet; those of all others are closed. A workload
   * whose sockets cannot be opened gets the problem instead.
   */
  openFor(workloads: readonly LocalWorkload[]): ReadonlyMap<WorkloadName, WorkloadSockets> {
    const inodes = new Set(workloads.map(({ netnsInode }) => netnsInode));
    for (const [inode, opened] of this.#opened) if (!inodes.has(inode)) this.#close(inode, opened);
    return new Map(workloads.map((workload) => [workload.name, this.#tryOpen(workload)]));
  }

  /** All sockets, for the process that takes over, or for one that keeps them between two processes. */
  all(): readonly number[] {
    return [...this.#opened.values()].flatMap(({ fds }) => capturePortNames.flatMap((name) => fds[name].flat()));
  }

  /**
   * Ends those of one worker in one workload, on which that worker does not accept: the kernel gives its connections to
   * the others, or refuses them. Copies that the supervisor keeps leave their groups too: they would still get
   * connections, and let them wait in vain. The next {@link openFor} opens new ones.
   *
   * The worker must not have a server on them, because a thread with a server on an ended socket never rests.
   *
   * Shared sockets stay, here and in {@link dropWorker}: the other agent's copies would stay in their groups, and get
   * connections that nothing accepts until it serves, or ends. So the worker accepts on them when it is back.
   */
  closeFor(workerIndex: number, workload: WorkloadName): void {
    if (this.#isShared()) return;
    for (const opened of this.#opened.values()) {
      if (opened.workload === workload) endWorker(opened, workerIndex);
    }
    this.#onChange();
  }

  /** The same for a worker that has ended, in all workloads. */
  dropWorker(workerIndex: number): void {
    if (this.#isShared()) return;
    for (const opened of this.#opened.values()) endWorker(opened, workerIndex);
    this.#onChange();
  }

  /** Closes what was taken over and belongs to no workload: connections to it were waiting for an answer in vain. */
  closeUnclaimed(): void {
    for (const fds of this.#kept.values()) for (const fd of fds) closeSync(fd);
    this.#kept.clear();
  }

  /** Connections are refused from now on, unless another process or a worker has the sockets too. */
  closeAll(): void {
    this.closeUnclaimed();
    for (const [inode, opened] of this.#opened) this.#close(inode, opened);
  }

  #keep(fd: number): void {
    const listener = listenerOf(fd);
    if (listener === null) {
      closeSync(fd);
      return;
    }
    const key = keyOf(listener.netnsInode, listener.port);
    this.#kept.set(key, [...(this.#kept.get(key) ?? []), fd]);
  }

  #tryOpen(workload: LocalWorkload): WorkloadSockets {
    try {
      return { kind: 'open', fds: this.#open(workload) };
    } catch (error) {
      return { kind: 'failed', problem: describeError(error) };
    }
  }

  #open(workload: LocalWorkload): Opened['fds'] {
    const { name, netnsInode } = workload;
    let opened = this.#opened.get(netnsInode);
    if (opened?.workload !== name) {
      // Another workload in the same namespace: the sockets stay, under its name.
      opened = { workload: name, netnsInode, fds: opened?.fds ?? this.#claim(netnsInode) };
      this.#opened.set(netnsInode, opened);
    }
    const { fds } = opened;
    const isComplete = capturePortNames.every((port) => fds[port].every((ofWorker) => ofWorker.length > 0));
    if (!isComplete) this.#fill(workload, fds);
    return fds;
  }

  /** What was taken over for a namespace, spread over the workers. */
  #claim(netnsInode: number): Opened['fds'] {
    const spread = (name: CapturePortName): number[][] => {
      const key = keyOf(netnsInode, capturePorts[name]);
      const kept = this.#kept.get(key) ?? [];
      this.#kept.delete(key);
      const ofWorker = (index: number): number[] => kept.filter((_, at) => at % this.#workers === index);
      return Array.from({ length: this.#workers }, (_, index) => ofWorker(index));
    };
    return {
      outbound: spread('outbound'),
      inboundPlaintext: spread('inboundPlaintext'),
      inboundTunnel: spread('inboundTunnel'),
    };
  }

  /** Opens what is missing. Throws, for example `EADDRINUSE`, and then has opened none for a worker that had none. */
  #fill(workload: LocalWorkload, fds: Opened['fds']): void {
    const netns = openNetns(workload.netnsPath);
    const added: { readonly ofWorker: number[]; readonly fd: number }[] = [];
    try {
      if (netns.inode !== workload.netnsInode) {
        throw new CulvertError({
          code: 'ESTALE',
          message: `the network namespace of ${workload.name} was replaced by another one`,
          hint: 'nothing to do: the agent takes over the new one as soon as it sees it',
        });
      }
      for (const port of capturePortNames) {
        for (const ofWorker of beginningAt(netns.inode % this.#workers, fds[port])) {
          if (ofWorker.length > 0) continue;
          const options = { netnsFd: netns.fd, host: '::', port: capturePorts[port], reusePort: true };
          const fd = listenTcp({ ...options, backlog: this.#backlog });
          ofWorker.push(fd);
          added.push({ ofWorker, fd });
        }
      }
    } catch (error) {
      for (const { ofWorker, fd } of added) {
        ofWorker.length = 0;
        closeSync(fd);
      }
      throw error;
    } finally {
      closeSync(netns.fd);
      this.#onChange();
    }
  }

  #close(inode: number, opened: Opened): void {
    this.#opened.delete(inode);
    for (const name of capturePortNames) for (const fd of opened.fds[name].flat()) closeSync(fd);
    this.#onChange();
  }
}

function endWorker({ fds }: Opened, workerIndex: number): void {
  for (const name of capturePortNames) {
    const own = fds[name][workerIndex] ?? [];
    fds[name][workerIndex] = [];
    for (const fd of own) endListening(fd);
  }
}

function endListening(fd: number): void {
  try {
    // Ended before, by another process that has a copy, it is no longer one.
    if (listenerOf(fd) !== null) stopListening(fd);
  } finally {
    closeSync(fd);
  }
}

function keyOf(netnsInode: number, port: number): string {
  return `${netnsInode}:${port}`;
}

/** The first socket of a port gets what applications open (see `steerGroup`): that of another worker for each workload. */
function beginningAt<T>(first: number, all: readonly T[]): readonly T[] {
  return [...all.slice(first), ...all.slice(0, first)];
}
