import type { ChildProcess } from 'node:child_process';
import { describeError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { SerialQueue } from '../shared/serial-queue.js';
import { removeEverything } from './capture/remove-everything.js';
import type { CapturedNamespaces } from './control/state/last-good-state.js';
import { StateDirectory } from './control/state/state-directory.js';
import { netnsInode } from './native/netns.js';
import type { ToSupervised } from './supervised.js';

type Captured = CapturedNamespaces['namespaces'][number];

/**
 * Removes the capture of a child that has died from every namespace in the ledger when the next child stays away. What that
 * one captures itself it also serves, so a first start that takes long opens nothing.
 *
 * A namespace has one owner: this object, until a child that lives takes its rules. Such a child waits while they are being
 * removed, and then nothing of the namespace is removed until it gives them back, or ends.
 */
export class FailOpener {
  readonly #stateDir: string;
  readonly #log: Log;
  readonly #onOpen: () => void;
  readonly #remove: typeof removeEverything;
  readonly #removals = new SerialQueue();
  /** Inodes of namespaces. */
  readonly #taken = new Map<ChildProcess, Set<number>>();
  #timer: NodeJS.Timeout | null = null;
  #dueAtMs = 0;
  /** What was captured when the child that is expected was started. */
  #captured: Promise<readonly Captured[]> = Promise.resolve([]);
  /** Since a child last served, or one was expected: what is given back is opened at once. */
  #isOverdue = false;
  /** Since a child last served. */
  #hasOpened = false;

  constructor(init: {
    readonly stateDir: string;
    readonly log: Log;
    /** Traffic is about to pass without the agent. */
    readonly onOpen: () => void;
    /** Default: {@link removeEverything}. */
    readonly remove?: typeof removeEverything;
  }) {
    this.#stateDir = init.stateDir;
    this.#log = init.log;
    this.#onOpen = init.onOpen;
    this.#remove = init.remove ?? removeEverything;
  }

  /**
   * Opens unless a child serves within this time, or within the time of an earlier call if that ends sooner. Start the
   * child when this resolves. Never rejects.
   */
  async expectChild(timeoutMs: number): Promise<void> {
    this.#captured = this.#readCaptured();
    this.#isOverdue = false;
    this.#openIn(timeoutMs);
    // `#open` reports what went wrong.
    await this.#captured.catch(() => undefined);
  }

  /** Resolves when nothing of the namespace is being removed, and nothing will be while the child has its rules. */
  async childTakes(child: ChildProcess, inode: number): Promise<void> {
    this.#taken.set(child, (this.#taken.get(child) ?? new Set()).add(inode));
    await this.#removals.idle();
  }

  /** It could not load them. */
  childGivesBack(child: ChildProcess, inode: number): void {
    this.#taken.get(child)?.delete(inode);
    if (this.#isOverdue) this.#openNow((namespace) => inodeOf(namespace) === inode);
  }

  childEnded(child: ChildProcess): void {
    this.#taken.delete(child);
  }

  /** In time: nothing is removed. Too late: one of a version before must reload what the removal took while it started. */
  childServes(child: ChildProcess): void {
    this.#cancel();
    if (!this.#hasOpened) return;
    this.#hasOpened = false;
    const recheck: ToSupervised = { type: 'recheck-capture' };
    void this.#removals.idle().then(() => {
      if (child.connected) child.send(recheck, () => undefined);
    });
  }

  /** Opens nothing more; resolves when what is being opened is. */
  async close(): Promise<void> {
    this.#cancel();
    await this.#removals.idle();
  }

  #cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#isOverdue = false;
  }

  #openIn(timeoutMs: number): void {
    const dueAtMs = Date.now() + timeoutMs;
    if (this.#timer !== null && this.#dueAtMs <= dueAtMs) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#hasOpened = true;
      this.#isOverdue = true;
      this.#openNow(() => true);
    }, timeoutMs);
  }

  #openNow(isMeant: (namespace: Captured) => boolean): void {
    void this.#removals.run(() => this.#open(isMeant));
  }

  async #open(isMeant: (namespace: Captured) => boolean): Promise<void> {
    try {
      const captured = (await this.#captured).filter(isMeant);
      const namespaces = captured.filter((namespace) => !this.#isTaken(namespace));
      if (namespaces.length === 0) return;
      this.#onOpen();
      const removed = await this.#remove({
        netnsPaths: namespaces.map((namespace) => namespace.netnsPath),
        keepsHost: [...this.#taken.values()].some(({ size }) => size > 0),
      });
      const problems = removed.filter(({ problem }) => problem !== null);
      this.#log.error(
        { namespaces: namespaces.map((namespace) => namespace.workload), problems },
        'FAIL OPEN: the agent is down, so the traffic of its workloads now passes unprotected',
      );
    } catch (error) {
      this.#log.error({ problem: describeError(error) }, 'the capture could not be removed: traffic stays refused');
    }
  }

  #isTaken(namespace: Captured): boolean {
    const inode = inodeOf(namespace);
    return [...this.#taken.values()].some((inodes) => inodes.has(inode));
  }

  async #readCaptured(): Promise<readonly Captured[]> {
    const directory = new StateDirectory({ path: this.#stateDir });
    return (await directory.readCaptured(this.#log)).namespaces;
  }
}

/** Of the namespace that is there now, which a child may have taken, not of one that had the name before. */
function inodeOf({ netnsPath, netnsInode: inode }: Captured): number {
  return netnsInode(netnsPath) ?? inode;
}
