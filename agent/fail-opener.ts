import type { ChildProcess } from 'node:child_process';
import { describeError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { removeEverything } from './capture/remove-everything.js';
import { StateDirectory } from './control/state/state-directory.js';
import type { ToSupervised } from './supervised.js';

/** Removes the capture from every namespace in the ledger when the agent stays away. */
export class FailOpener {
  readonly #stateDir: string;
  readonly #log: Log;
  readonly #onOpen: () => void;
  #timer: NodeJS.Timeout | null = null;
  #dueAtMs = 0;
  #removal: Promise<void> | null = null;
  /** Since a child last served. */
  #hasOpened = false;

  /** `onOpen`: traffic is about to pass without the agent. */
  constructor(init: { readonly stateDir: string; readonly log: Log; readonly onOpen: () => void }) {
    this.#stateDir = init.stateDir;
    this.#log = init.log;
    this.#onOpen = init.onOpen;
  }

  /** Opens unless a child serves within this time, or within the time of an earlier call if that ends sooner. */
  expectChild(timeoutMs: number): void {
    const dueAtMs = Date.now() + timeoutMs;
    if (this.#timer !== null && this.#dueAtMs <= dueAtMs) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#hasOpened = true;
      this.#onOpen();
      this.#removal ??= this.#open().finally(() => (this.#removal = null));
    }, timeoutMs);
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

  async #open(): Promise<void> {
    try {
      const directory = new StateDirectory({ path: this.#stateDir });
      const { namespaces } = await directory.readCaptured(this.#log);
      if (namespaces.length === 0) return;
      const removed = await removeEverything({ netnsPaths: namespaces.map((namespace) => namespace.netnsPath) });
      const problems = removed.filter(({ problem }) => problem !== null);
      this.#log.error(
        { namespaces: namespaces.map((namespace) => namespace.workload), problems },
        'FAIL OPEN: the agent is down, so the traffic of its workloads now passes unprotected',
      );
    } catch (error) {
      this.#log.error({ problem: describeError(error) }, 'the capture could not be removed: traffic stays refused');
    }
  }
}
