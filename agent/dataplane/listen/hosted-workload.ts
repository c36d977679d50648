import { closeSync } from 'node:fs';
import { CulvertError } from '../../../shared/errors.js';
import { openNetns } from '../../native/netns.js';
import type { SlottedWorkload } from '../messages.js';
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
  readonly #fd: number;
  #isOpen = true;

  private constructor(workload: SlottedWorkload, fd: number) {
    this.name = workload.name;
    this.netnsInode = workload.netnsInode;
    this.slot = workload.slot;
    this.#fd = fd;
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

  get isOpen(): boolean {
    return this.#isOpen;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
  }
}
