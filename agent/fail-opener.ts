import type { ChildProcess } from 'node:child_process';
import { describeError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { removeEverything } from './capture/remove-everything.js';
import type { CapturedNamespaces } from './control/state/last-good-state.js';
import { StateDirectory } from './control/state/state-directory.js';
import type { ToSupervised } from './supervised.js';

/**
 * Removes the capture of a child that has died from every namespace in the ledger when the next child stays away. What that
 * one captures itself it also serves, so a first start that takes long opens nothing.
 */
export class FailOpener {
  readonly #stateDir: string;
  readonly #log: Log;
  readonly #onOpen: () => void;
  readonly #remove: typeof removeEverything;
  #timer: NodeJS.Timeout | null = null;
  #dueAtMs = 0;
  #removal: Promise<void> | null = null;
  /** What was captured when the child that is expected was started. */
  #captured: Promise<CapturedNamespaces['namespaces']> = Promise.resolve([]);
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
    this.#openIn(timeoutMs);
    // `#open` reports what went wrong.
    await this.#captured.catch(() => undefined);
  }

  /** In time: nothing is removed. Too late: the child must reload what the removal took from it while it started. */
  childServes(child: ChildProcess): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#hasOpened) return;
    this.#hasOpened = false;
    const recheck: ToSupervised = { type: 'recheck-capture' };
    void (this.#removal ?? Promise.resolve()).then(() => {
      if (child.connected) child.send(recheck, () => undefined);
    });
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#removal;
  }

  #openIn(timeoutMs: number): void {
    const dueAtMs = Date.now() + timeoutMs;
    if (this.#timer !== null && this.#dueAtMs <= dueAtMs) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#hasOpened = true;
      this.#removal ??= this.#open().finally(() => (this.#removal = null));
    }, timeoutMs);
  }

  async #open(): Promise<void> {
    try {
      const namespaces = await this.#captured;
      if (namespaces.length === 0) return;
      this.#onOpen();
      const removed = await this.#remove({ netnsPaths: namespaces.map((namespace) => namespace.netnsPath) });
      const problems = removed.filter(({ problem }) => problem !== null);
      this.#log.error(
        { namespaces: namespaces.map((namespace) => namespace.workload), problems },
        'FAIL OPEN: the agent is down, so the traffic of its workloads now passes unprotected',
      );
    } catch (error) {
      this.#log.error({ problem: describeError(error) }, 'the capture could not be removed: traffic stays refused');
    }
  }

  async #readCaptured(): Promise<CapturedNamespaces['namespaces']> {
    const directory = new StateDirectory({ path: this.#stateDir });
    return (await directory.readCaptured(this.#log)).namespaces;
  }
}
