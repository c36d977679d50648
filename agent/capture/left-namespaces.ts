import { closeSync } from 'node:fs';
import type { IpAddress } from '../../shared/address.js';
import { openNetns } from '../native/netns.js';
import { addressesOnlyThere } from './namespace-addresses.js';

/** A namespace that the agent before this one captured, or an earlier run. */
export type LeftNamespace = {
  readonly netnsPath: string;
  readonly netnsInode: number;
  /** The registered addresses of its workload, as they were then. */
  readonly addresses: readonly IpAddress[];
};

/**
 * Namespaces that are captured from before, until this agent captures or releases each of them. It does so one after the other,
 * and what it loads into the host meanwhile must not leave out those whose turn has not come.
 */
export class LeftNamespaces {
  readonly #byInode = new Map<number, LeftNamespace>();

  add(left: readonly LeftNamespace[]): void {
    for (const each of left) this.#byInode.set(each.netnsInode, each);
  }

  /** Its turn has come. */
  remove(netnsInode: number): void {
    this.#byInode.delete(netnsInode);
  }

  /** Of those that are still there: the addresses that the namespace has, and the host, whose namespace this is, has not. */
  addresses(hostPath: string): readonly IpAddress[] {
    return [...this.#byInode.values()].filter(isThere).flatMap((left) => addressesOnlyThere({ ...left, hostPath }));
  }
}

/** The path may lead to another namespace by now. */
function isThere({ netnsPath, netnsInode }: LeftNamespace): boolean {
  try {
    const { fd, inode } = openNetns(netnsPath);
    closeSync(fd);
    return inode === netnsInode;
  } catch {
    return false;
  }
}
