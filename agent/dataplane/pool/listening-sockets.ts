import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { listenTcp, makeTransparent, stopListening } from '../../native/addon.js';
import { mayChangeEarlyDemux } from '../../native/early-demux.js';
import { listenerOf } from '../../native/passed-sockets.js';
import { openNetns } from '../../native/netns.js';
import { type CapturePortName, capturePortNames, capturePorts, isGuardedPort } from '../../ports.js';
import type { LocalWorkload, WorkloadSockets } from '../messages.js';
import { HolderSearches } from './holder-search.js';
import { PortHolders } from './port-holder.js';

type Opened = {
  readonly workload: WorkloadName;
  readonly netnsInode: number;
  /** By port: one socket. More come from an agent of an older version, which had one for each worker. */
  readonly fds: Readonly<Record<CapturePortName, number[]>>;
  /** The worker that accepts on them. */
  acceptor: number;
};

/**
 * The listening sockets of every workload, one for each port. No other socket can join it on its port: it has no
 * SO_REUSEPORT. It is IP_TRANSPARENT, which takes CAP_NET_RAW or CAP_NET_ADMIN (root in a container often has the first of them),
 * and the capture rules refuse connections to any other socket on these ports. One worker accepts for a workload, and passes
 * on to the others; when it dies another one takes its place, and what waits in the queue waits for that.
 *
 * The control thread owns the sockets, so that they can be passed to the next process. Workers accept on duplicates.
 * Every open socket keeps its namespace alive: sockets are closed when their workload leaves.
 */
export class ListeningSockets {
  readonly #workers: number;
  readonly #backlog: number;
  readonly #opened = new Map<number, Opened>();
  /** Workers that have ended and are not back yet. */
  readonly #lost = new Set<number>();
  /** Taken from the process before, and not yet claimed by a workload. By namespace and port. */
  readonly #kept = new Map<string, number[]>();
  readonly #holders = new PortHolders(new HolderSearches());
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
    return [...this.#opened.values()].flatMap(({ fds }) => capturePortNames.flatMap((name) => fds[name]));
  }

  /** The worker that accepts for a workload; null: there are no sockets to accept on. */
  acceptorOf(workload: WorkloadName): number | null {
    const opened = [...this.#opened.values()].find((candidate) => candidate.workload === workload);
    return opened === undefined || opened.fds.outbound.length === 0 ? null : opened.acceptor;
  }

  /**
   * The worker that accepts for a workload cannot: its sockets are ended, because connections would wait there in vain, also
   * on copies that the supervisor keeps. The next {@link openFor} opens new ones, for another worker.
   *
   * The worker must not have a server on them, because a thread with a server on an ended socket never rests.
   *
   * Sockets that another agent has too stay, here and in {@link endListening}: that one accepts on them.
   */
  closeFor(workerIndex: number, workload: WorkloadName): void {
    for (const opened of this.#opened.values()) {
      if (opened.workload !== workload || opened.acceptor !== workerIndex) continue;
      opened.acceptor = this.#firstFrom(workerIndex + 1);
      if (!this.#isShared()) takeAll(opened).forEach(endSocket);
    }
    this.#onChange();
  }

  /** Others accept in its place from the next {@link openFor} on. */
  workerLost(workerIndex: number): void {
    this.#lost.add(workerIndex);
    this.#moveFromLost();
  }

  /** It can accept again: for workloads that are new, or that no worker accepts for. */
  workerBack(workerIndex: number): void {
    this.#lost.delete(workerIndex);
    this.#moveFromLost();
  }

  /**
   * Nothing accepts, and may not soon: connections are refused, and do not wait in vain. Also on copies that a supervisor
   * keeps.
   */
  endListening(): void {
    if (this.#isShared()) return;
    for (const opened of this.#opened.values()) takeAll(opened).forEach(endSocket);
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
      const { fds, acceptor } = this.#open(workload);
      return { kind: 'open', fds, acceptor };
    } catch (error) {
      return { kind: 'failed', problem: describeError(error) };
    }
  }

  #open(workload: LocalWorkload): Opened {
    const { name, netnsInode } = workload;
    let opened = this.#opened.get(netnsInode);
    if (opened?.workload !== name) {
      // Another workload in the same namespace: the sockets stay, under its name.
      const fds = opened?.fds ?? this.#claim(netnsInode);
      opened = { workload: name, netnsInode, fds, acceptor: opened?.acceptor ?? this.#firstFrom(netnsInode) };
      this.#opened.set(netnsInode, opened);
    }
    if (!capturePortNames.every((port) => opened.fds[port].length > 0)) this.#fill(workload, opened.fds);
    return opened;
  }

  /** Another one for each workload, so that the work is shared. */
  #firstFrom(start: number): number {
    for (let step = 0; step < this.#workers; step++) {
      const index = (start + step) % this.#workers;
      if (!this.#lost.has(index)) return index;
    }
    return start % this.#workers;
  }

  #moveFromLost(): void {
    for (const opened of this.#opened.values()) {
      if (this.#lost.has(opened.acceptor)) opened.acceptor = this.#firstFrom(opened.netnsInode);
    }
  }

  /** What was taken over for a namespace. */
  #claim(netnsInode: number): Opened['fds'] {
    const take = (name: CapturePortName): number[] => {
      const key = keyOf(netnsInode, capturePorts[name]);
      const kept = this.#kept.get(key) ?? [];
      this.#kept.delete(key);
      // Those of an older version are not.
      if (this.#isGuarded(capturePorts[name])) for (const fd of kept) makeTransparent(fd);
      return kept;
    };
    return {
      outbound: take('outbound'),
      inboundPlaintext: take('inboundPlaintext'),
      inboundTunnel: take('inboundTunnel'),
    };
  }

  /** Opens what is missing. Throws, for example `EADDRINUSE`, and then has opened none. */
  #fill(workload: LocalWorkload, fds: Opened['fds']): void {
    const netns = openNetns(workload.netnsPath);
    const added: { readonly ofPort: number[]; readonly fd: number }[] = [];
    try {
      if (netns.inode !== workload.netnsInode) {
        throw new CulvertError({
          code: 'ESTALE',
          message: `the network namespace of ${workload.name} was replaced by another one`,
          hint: 'nothing to do: the agent takes over the new one as soon as it sees it',
        });
      }
      for (const name of capturePortNames) {
        const ofPort = fds[name];
        if (ofPort.length > 0) continue;
        const fd = this.#holders.named(netns, capturePorts[name], () => this.#listen(netns.fd, capturePorts[name]));
        ofPort.push(fd);
        added.push({ ofPort, fd });
      }
    } catch (error) {
      for (const { ofPort, fd } of added) {
        ofPort.length = 0;
        closeSync(fd);
      }
      throw error;
    } finally {
      closeSync(netns.fd);
      this.#onChange();
    }
  }

  #listen(netnsFd: number, port: number): number {
    const transparent = this.#isGuarded(port);
    return listenTcp({ netnsFd, host: '::', port, backlog: this.#backlog, reusePort: false, transparent });
  }

  /** Capture switches early demultiplexing off where it can. */
  #isGuarded(port: number): boolean {
    return isGuardedPort(port, { hasEarlyDemux: !mayChangeEarlyDemux() });
  }

  #close(inode: number, opened: Opened): void {
    this.#opened.delete(inode);
    for (const fd of takeAll(opened)) closeSync(fd);
    this.#onChange();
  }
}

function takeAll({ fds }: Opened): readonly number[] {
  return capturePortNames.flatMap((name) => fds[name].splice(0));
}

function endSocket(fd: number): void {
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
