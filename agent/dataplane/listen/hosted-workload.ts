import { closeSync } from 'node:fs';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd, openConntrack } from '../../native/addon.js';
import { ClientPorts } from '../../native/client-ports.js';
import { openNetns } from '../../native/netns.js';
import { SocketTable } from '../../native/socket-table.js';
import type { SlottedWorkload } from '../messages.js';
import type { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import { SpareSockets } from '../sockets/spare-sockets.js';
import { entryProbing, type EntryProbing } from './conntrack-timeouts.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/**
 * A workload of this node, with its network namespace held open. Owns the fd: `close` it when the workload leaves, because
 * an open fd keeps the namespace, and so the workload's addresses, alive.
 */
export class HostedWorkload {
  readonly name: WorkloadName;
  readonly netnsInode: number;
  /** Index of the workload's counters, which all workers share. */
  readonly slot: number;
  /** Whether its application can be dialled from a borrowed address. */
  hasRules: boolean;
  readonly #fd: number;
  #isOpen = true;
  #probing: EntryProbing;
  /** Null: not needed yet. False: the namespace has none. */
  #conntrackFd: number | false | null = null;
  readonly #spares = new SpareSockets();
  readonly #clientPorts = new ClientPorts();
  /** Null until it is first needed. */
  #sockets: SocketTable | null = null;

  private constructor(workload: SlottedWorkload, fd: number) {
    this.name = workload.name;
    this.netnsInode = workload.netnsInode;
    this.slot = workload.slot;
    this.hasRules = workload.hasRules === true;
    this.#fd = fd;
    this.#probing = entryProbing(fd);
  }

  /** Throws `ENOENT` when the namespace is gone, `ESTALE` when its path leads to another one. */
  static open(workload: SlottedWorkload): HostedWorkload {
    const { fd, inode } = openNetns(workload.netnsPath);
    if (inode === workload.netnsInode) return new HostedWorkload(workload, fd);
    closeSync(fd);
    throw new CulvertError({
      code: 'ESTALE',
      message: `the network namespace of ${workload.name} was replaced by another one`,
      hint: 'nothing to do: the agent takes over the new one as soon as it sees it',
    });
  }

  /** Use it at once and never keep it. Throws `EBADF` after `close`, so that a late dial cannot use a reused number. */
  get netnsFd(): number {
    if (this.#isOpen) return this.#fd;
    throw new CulvertError({ code: 'EBADF', message: `workload ${this.name} has left this node` });
  }

  /** A socket of this namespace to dial with, for `aimSpare`: the caller's. Throws `EBADF` after `close`. */
  dialSocket(family: 4 | 6, descriptors: DescriptorReserve): number {
    return this.#spares.take(this.netnsFd, family, descriptors);
  }

  /** The sockets of its applications. Use it at once and never keep it. Throws `EBADF` after `close`. */
  get sockets(): SocketTable {
    this.#sockets ??= SocketTable.open(this.netnsFd);
    return this.#sockets;
  }

  /** How connections are probed that live on an entry of this namespace's connection tracking. */
  get probing(): EntryProbing {
    return this.#probing;
  }

  /** Reads the timeouts of the namespace again; returns whether {@link probing} is another one now. */
  refreshProbing(): boolean {
    const { open, halfClosed } = this.#probing;
    const now = entryProbing(this.netnsFd);
    if (now.open.everySeconds === open.everySeconds && now.halfClosed.everySeconds === halfClosed.everySeconds)
      return false;
    this.#probing = now;
    return true;
  }

  /**
   * The port that the client of a connection dialled from that was redirected and accepted here; null when that is not known.
   * Throws `EPERM`, for example.
   */
  clientPort(accepted: { readonly fd: number }): number | null {
    const { conntrackFd } = this;
    return conntrackFd === null ? null : this.#clientPorts.of(accepted.fd, { netnsFd: this.netnsFd, conntrackFd });
  }

  /** For questions to the namespace's connection tracking; null when it cannot be asked. Use it at once. */
  get conntrackFd(): number | null {
    if (!this.#isOpen) return null;
    this.#conntrackFd ??= openOrNot(this.#fd);
    return this.#conntrackFd === false ? null : this.#conntrackFd;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#sockets?.close();
    this.#sockets = null;
    this.#spares.close();
    this.#clientPorts.close();
    closeSync(this.#fd);
    if (typeof this.#conntrackFd === 'number') closeFd(this.#conntrackFd);
  }
}

function openOrNot(netnsFd: number): number | false {
  try {
    return openConntrack({ netnsFd });
  } catch {
    return false;
  }
}
